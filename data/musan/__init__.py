"""MUSAN: music, speech and noise."""

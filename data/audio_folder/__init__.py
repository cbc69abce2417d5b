"""Any folder of audio, with or without a manifest."""

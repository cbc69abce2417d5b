"""ESC-50: environmental sounds as backgrounds."""

"""MIT impulse response survey: rooms of everyday life."""

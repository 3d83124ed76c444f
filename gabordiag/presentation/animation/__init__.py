"""The failing run as an animation: `frames` (what is drawn when), `film` (GIF, MP4)."""

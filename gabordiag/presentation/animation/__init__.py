"""The failing run as an animation.

`frames` (what is drawn), `storyboard` (what is shown when), `film` (GIF in few colours, MP4)
"""

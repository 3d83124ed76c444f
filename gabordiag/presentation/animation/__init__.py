"""The failing run as an animation.

`frames` (what is drawn), `storyboard` (what is shown when), `film` (GIF, MP4), `palette` (few
colours)
"""

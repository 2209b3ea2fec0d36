"""Maps of what a network's blocks look at in one clip, image or tracklet."""

"""What a network's blocks look at in one clip, picture or tracklet."""

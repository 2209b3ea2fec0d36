"""From a video to identities: tracks of other programs, crops of them, and who they are."""

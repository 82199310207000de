"""Cut the power between any two changes of the disk, and see that jobs go on and end with the same bytes."""

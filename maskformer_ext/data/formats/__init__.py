"""What files of labels and annotations hold, before anybody makes samples of it."""

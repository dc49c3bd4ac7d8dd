"""What happens to a training sample: sizes, crops, turns, flips and colours."""

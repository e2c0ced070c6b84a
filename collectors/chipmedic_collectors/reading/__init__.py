"""What readers of vendor tools share: command lines, boxes, blocks, CSV and what tools complain."""

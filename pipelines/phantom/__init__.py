"""What would a dual-energy scanner show of a bag? Materials, shapes, items and the detector, as numbers."""

"""Coarse-to-fine search of options: spaces, stages that narrow, studies that several workers share."""

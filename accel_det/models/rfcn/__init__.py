"""R-FCN, written from its papers, and its deformable variant."""

"""The continuous backbone: a U-Net over pixels."""

"""f_img and f_txt: texts and pictures in one space (paper section 3)."""

from kdlib.encoder.encoder import Encoder

__all__ = ["Encoder"]

"""Readers of captioned picture sets as they are published, one picture in memory at a time (sections 4 and 6.2)."""

from kdlib.data.captioned.coco import read_coco
from kdlib.data.captioned.cub import read_cub
from kdlib.data.captioned.narratives import read_narratives
from kdlib.data.captioned.shards import read_shards
from kdlib.data.captioned.table import read_table
from kdlib.data.captioned.tally import Captioned, Tally

__all__ = ["Captioned", "Tally", "read_coco", "read_cub", "read_narratives", "read_shards", "read_table"]

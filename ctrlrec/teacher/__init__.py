"""The teacher: SASRec, its training, and ranks of items given a history."""

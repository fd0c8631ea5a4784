"""Rows of the tables that other papers propose; where each comes from and where it differs from its own paper."""

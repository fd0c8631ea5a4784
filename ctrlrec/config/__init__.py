"""The configuration: its schema, its composition from ``conf/``, and its checks."""

"""The controls, one module each; :mod:`ctrlrec.controls.registry` holds them by kind and by task."""

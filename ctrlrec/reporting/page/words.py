"""Plain names for settings, so that a page can be read without the paper."""

_ASKED = {
    "sequential": "nothing asked",
    "category_positive": "more of a category",
    "category_negative": "none of a category",
    "at_most_20": "at most 20%",
    "about_30": "about 30%",
    "at_least_30": "at least 30%",
    "formatting": "longer lists",
    "general": "exams",
    "blend_2": "two wishes",
    "blend_3": "three wishes",
    "blend_unseen": "two wishes never trained together",
}


def asked(setting: str) -> str:
    """Return what a setting asks for, in words; a plug-in's setting by its name."""
    return _ASKED.get(setting, setting.replace("_", " "))

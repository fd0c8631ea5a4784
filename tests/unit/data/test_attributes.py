"""Release decades and popularity as categories."""

from pathlib import Path

import pytest
from dataset_files import config, uncut

from ctrlrec.config.compose import compose
from ctrlrec.data.attributes import decades, popularity, with_attributes
from ctrlrec.data.catalogue import Catalogue
from ctrlrec.data.prepare import prepare
from ctrlrec.errors import CtrlRecError

TITLES = ("Heat (1995)", "Alien (1979) (restored)", "1984", "2001: A Space Odyssey (1968)", "M (1931)", "Ran (85)")


def shelf(interactions: tuple[int, ...] = (0,) * 6, category: str = "Drama") -> Catalogue:
    return Catalogue(TITLES, TITLES, ((category,),) * 6, (category,) * 6, interactions)


def test_decades_come_from_the_year_in_brackets() -> None:
    assert decades(shelf()) == ["1990s", "1970s", None, "1960s", "1930s", None]


def test_popular_is_the_fifth_and_niche_the_half_of_the_items() -> None:
    assert popularity(shelf((9, 5, 4, 3, 2, 1))) == ["popular", "popular", None, "niche", "niche", "niche"]
    assert popularity(shelf((7, 7, 7, 3, 3, 1))) == ["popular"] * 3 + ["niche"] * 3  # equals stand together


def test_attributes_are_categories_and_nobodys_target_category() -> None:
    whole = with_attributes(shelf((9, 5, 4, 3, 2, 1)), ["decade", "popularity"])
    assert whole.categories[0] == ("Drama", "1990s", "popular") and whole.categories[2] == ("Drama",)
    assert set(whole.target_categories) == {"Drama"} and "1970s" in whole.category_index
    assert with_attributes(shelf(), []) == shelf()


@pytest.mark.parametrize(
    ("category", "names", "said"), [("1990s", ["decade"], "'1990s'"), ("popular", ["popularity"], "'popular'")]
)
def test_a_name_that_the_data_have_is_refused(category: str, names: list[str], said: str) -> None:
    with pytest.raises(CtrlRecError, match=f"{names[0]}: {said} is a category of the data"):
        with_attributes(shelf(category=category), names)


def test_an_attribute_that_nothing_has_is_refused() -> None:
    titles = ("A", "B")
    with pytest.raises(CtrlRecError, match="decade: no item has one"):
        with_attributes(Catalogue(titles, titles, (("x",),) * 2, ("x",) * 2, (1, 1)), ["decade"])


def test_the_data_stage_adds_them(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        "item,title,categories\n" + "".join(f"i{n},Film {n} ({1980 + n}),Drama\n" for n in range(20))
    )
    (tmp_path / "interactions.csv").write_text(
        "user,item,timestamp\n" + "".join(f"u{u},i{n},{n}\n" for u in range(3) for n in range(20 - u))
    )
    found = prepare(config("records", tmp_path, attributes=["decade", "popularity"]), tmp_path, uncut).catalogue
    assert found.categories[3][:2] == ("Drama", "1980s") and found.categories[13][:2] == ("Drama", "1990s")
    assert {"popular", "niche"} <= set(found.category_names) and set(found.target_categories) == {"Drama"}


def test_an_unknown_attribute_names_the_nearest() -> None:
    with pytest.raises(CtrlRecError, match=r"dataset\.attributes contains 'decades': did you mean 'decade'"):
        compose("dataset.attributes=[decades]")

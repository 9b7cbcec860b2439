from collections.abc import Iterator
from datetime import date

import pytest
from shop import images, mail, orders, reports, stock
from shop.celery import app


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def test_a_cart_is_priced_line_by_line() -> None:
    assert orders.bill({"teapot": 1, "cup": 4}).apply().get() == 2490 + 4 * 690 + 490


def test_an_order_goes_its_way() -> None:
    steps = orders.confirm.s({"id": 7}) | orders.cancel.s("broken")

    assert steps.apply().get() == {"id": 7, "state": "cancelled", "reason": "broken"}


def test_a_supplier_is_asked_again() -> None:
    assert stock.import_feed.delay("potters").get() == "potters after 2 retries"


def test_what_is_unknown_is_an_error() -> None:
    with pytest.raises(KeyError):
        stock.discontinue.delay("spoon").get()


def test_letters_and_pictures_have_queues_of_their_own() -> None:
    route = app.amqp.router.route

    assert route({}, mail.receipt.name)["queue"].name == "mail"
    assert route({}, images.palette.name)["queue"].name == "images"
    assert route({}, orders.price.name)["queue"].name == "shop"


def test_a_week_begins_on_monday() -> None:
    assert reports.week_of(date(2026, 11, 22))[0] == date(2026, 11, 16)

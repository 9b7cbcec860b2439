"""The shop's Celery application: ``celery -A shop worker``, ``celery -A shop beat``."""

from celery import Celery

app = Celery("shop")
app.config_from_object("shop.celeryconfig")

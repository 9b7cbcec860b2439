"""The shop with managers: ``celery -A shop.fleet worker``, ``celery -A shop.fleet beat``."""

from shop.celery import app
from shop.printers import PrinterManager
from workers import celeriac_app

celeriac_app(app, managers=[PrinterManager])

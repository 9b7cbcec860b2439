"""How the shop uses Celery."""

import os

from kombu import Exchange, Queue

import shop.wire  # noqa: F401  # it makes the serializer known

broker_url = os.environ.get("SHOP_REDIS", "redis://localhost:6379/0")
result_backend = broker_url
result_extended = True
imports = ("shop.images", "shop.mail", "shop.orders", "shop.reports", "shop.stock")

# shop.wire has it
task_serializer = "shop"
result_serializer = "shop"
accept_content = ["shop"]

task_default_queue = "shop"
task_default_exchange = "shop"
task_default_routing_key = "shop"
task_queues = (
    Queue("shop", Exchange("shop"), routing_key="shop"),
    Queue("mail", Exchange("shop"), routing_key="mail"),
    Queue("images", Exchange("shop"), routing_key="images"),
)
task_routes = [
    {"shop.mail.*": {"queue": "mail"}, "shop.images.*": {"queue": "images"}},
    {"*": {"queue": "shop"}},
]

timezone = "Europe/Berlin"
beat_schedule = {
    "sweep the carts": {"task": "shop.reports.sweep", "schedule": float(os.environ.get("SHOP_SWEEP", "300"))},
}

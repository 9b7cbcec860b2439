"""An application as there are many: it knows nothing of Celeriac but the one line that adopts it."""

import os

from celery import Celery

from workers import celeriac_app

app = Celery("adopted", broker=os.environ["CELERIAC_BROKER_URL"], backend=os.environ["CELERIAC_RESULT_BACKEND"])
app.conf.update(include=["tests.fleet.journal"], worker_soft_shutdown_timeout=1.5)
celeriac_app(app)

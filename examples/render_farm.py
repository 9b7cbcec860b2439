"""A render farm: tasks that say what they need of the host that runs them."""

from celery import current_app, shared_task

from managers import SchedulerDependentManager, expose
from workers import ScheduledTask, registry_of


def here() -> str:
    """Return the host that runs the task."""
    return registry_of(current_app).host


@shared_task(base=ScheduledTask, requires="gpu.memory_mb >= 8000", claims={"gpus": 1})
def render(scene: str) -> str:
    return f"{scene}, rendered on {here()}"


@shared_task(base=ScheduledTask, requires="disk == 'ssd'", claims={"cpus": 0.3, "memory_mb": 2000})
def encode(film: str) -> str:
    return f"{film}, encoded on {here()}"


@shared_task(base=ScheduledTask, claims={"card_mb": 6000})
def preview(scene: str) -> str:
    return f"{scene}, previewed on {here()}"


@shared_task(base=ScheduledTask, requires={"zone": "a"})
def archive(scene: str) -> str:
    return f"{scene}, archived on {here()}"


@shared_task(base=ScheduledTask, claims={"gpus": 2}, count=3)
def simulate(scene: str) -> str:
    return here()


@shared_task(base=ScheduledTask, requires={"crash_tests": True}, claims={"slots": 0}, acks_late=True)
def smash(scene: str) -> str:
    return f"{scene}, smashed on {here()}"


@shared_task(base=ScheduledTask, prefers={"'sdxl' in models.loaded": 10, "ssd": 1})
def dream(prompt: str) -> str:
    return f"{prompt}, dreamt on {here()}"


class FrameStore(SchedulerDependentManager[None], service_name="frames"):
    def init_host(self) -> None:
        self.update_service_capabilities({"streams": 2, "disk": "ssd"})

    @expose
    def store(self, frame: str) -> str:
        return f"{frame}, stored on {self.host}"

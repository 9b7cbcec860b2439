from shop.printers import PrinterManager

from workers.testing import Cluster

pytest_plugins = ["workers.testing"]


class Tray:
    """A printer that keeps its labels."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    def print(self, text: str) -> None:
        self.labels.append(text)

    def labels_left(self) -> int:
        return 10 - len(self.labels)

    def clean(self) -> None:
        pass


def test_a_label_is_printed_where_the_parcel_is(cluster: Cluster) -> None:
    one, two = cluster.start(PrinterManager, hosts=["station-1", "station-2"], driver=Tray)

    PrinterManager.print_label.on("station-2").call(7, "Ann")
    cluster.advance(60)

    assert (one.driver.labels, two.driver.labels) == ([], ["7\nAnn\n"])
    assert cluster.table.aggregate()["printer.labels_left"] == (9, 10)

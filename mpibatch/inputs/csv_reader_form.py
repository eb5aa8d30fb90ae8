"""What `pandas.read_csv` is told: the options of the input, and how the fields of a file's records are named."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mpibatch.core.tables import CsvOptions
from mpibatch.inputs.csv_reader_text import Text, of_bytes

if TYPE_CHECKING:
    import pandas as pd


class Naming(NamedTuple):
    """How the fields of a file's records are named."""

    names: list[str] | None
    """None: the first record of what is read is the header."""
    numbered: bool = False
    """Nobody has named them: the names are numbers from 0, and labels of the frame are whole numbers."""


class Form:
    """The options as `pandas.read_csv` takes them. `dtypes`: what the survey has found, where it was to."""

    def __init__(self, options: CsvOptions, dtypes: dict[str, str] | None) -> None:
        self.columns = options.columns
        self.dates = [name for name in options.parse_dates if not self.columns or name in self.columns]
        self.dtype = dtypes if options.dtype == "from_first_rows" else options.dtype
        self._sep = options.sep.encode()
        meaning = (options.sep, options.quotechar, options.escapechar)
        self._letter = next(letter for letter in "abcd" if letter not in meaning).encode()
        self._settings: dict[str, Any] = {
            "engine": "c",
            "encoding": "utf-8",
            "sep": options.sep,
            **({"quotechar": options.quotechar} if options.quotechar else {"quoting": 3}),
            "escapechar": options.escapechar,
            "decimal": options.decimal,
            "thousands": options.thousands,
            # Else a record with too many fields, if it is the first, turns the first column into an index.
            "index_col": False,
            # Else the type of a column is found bit by bit, and may come out mixed.
            "low_memory": False,
        }
        self._nulls = {"na_values": options.na_values or None, "keep_default_na": options.keep_default_na}

    def frame(self, text: Text, naming: Naming) -> pd.DataFrame:
        """The rows as the options want them; a column of dates of which one is none stays text."""
        dates = self.dates or None
        how = {"dtype": self.dtype, "usecols": self.columns, "parse_dates": dates, **self._nulls}
        frame = self._read(text, naming, **how)
        return frame if self.columns is None or list(frame.columns) == self.columns else frame[self.columns]

    def texts(self, text: Text, naming: Naming, columns: list[str] | None, *, nulls: bool) -> pd.DataFrame:
        """Columns as they are written, as objects. `nulls`: what stands for nothing is NaN."""
        how: dict[str, Any] = self._nulls if nulls else {"na_filter": False}
        return self._read(text, naming, dtype=object, usecols=columns, **how)

    def header(self, text: Text) -> list[str]:
        """The names in a header record."""
        return [str(name) for name in self._read(text, Naming(None), nrows=0).columns]

    def check_dtypes(self) -> None:
        """Raise TypeError where a dtype is none that text can be read as."""
        import pandas as pd

        dtypes = self.dtype.values() if isinstance(self.dtype, dict) else [self.dtype or "str"]
        for dtype in dtypes:
            if pd.api.types.pandas_dtype(dtype).kind in "mM":
                raise TypeError(f"dtype {dtype!r} is none for text: name dates in parse_dates instead")

    def takes(self, values: list[str], dtype: Any) -> bool:
        """Whether pandas can read all of these texts as fields of a column of this dtype."""
        lines = '"' + '"\n"'.join([value.replace('"', '""') for value in values]) + '"\n'
        plain = {"sep": ",", "quotechar": '"', "quoting": 0, "escapechar": None}
        how = {"header": None, "names": ["value"], "dtype": {"value": dtype}, **self._nulls}
        try:
            _read_csv(of_bytes(lines.encode()), **self._settings | plain | how)
        except (ValueError, TypeError, ArithmeticError):
            return False
        return True

    def _read(self, text: Text, naming: Naming, **how: Any) -> pd.DataFrame:
        if naming.names:
            # Without a header pandas does not know how many fields there are, if the first records are short
            # and not all columns are read. Its names do not matter, as these take their place.
            text.before = self._sep.join([self._letter] * len(naming.names)) + b"\n"
        return _read_csv(text, **self._settings, header=0, names=naming.names, **how)


def _read_csv(text: Text, **how: Any) -> pd.DataFrame:
    import pandas as pd

    with warnings.catch_warnings():
        # What pandas has to say of dates it would say for each mini-batch.
        warnings.simplefilter("ignore")
        # A first record that has too many fields.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return cast("pd.DataFrame", pd.read_csv(cast(Any, text), **how))

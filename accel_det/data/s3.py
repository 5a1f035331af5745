"""Addresses of S3, as `datasets` opens archives at them."""

import functools
from typing import Any

import fsspec


@functools.cache
def accept_block_sizes() -> None:
    """Open `s3://` by a file system that takes `block_size`, from here on and in this process.

    `datasets` sets it when it streams an archive from anywhere, and s3fs hands what it does not know to its session, which
    refuses it.

    Raises:
        ValueError: s3fs is not installed.
    """
    try:
        from s3fs import S3FileSystem
    except ImportError as error:
        raise ValueError("s3:// needs s3fs: pip install 'accel_det[s3]'") from error

    class AnyBlockSize(S3FileSystem):  # type: ignore[misc]
        def __init__(self, *args: Any, block_size: int | None = None, **options: Any) -> None:
            super().__init__(*args, **options)

    fsspec.register_implementation("s3", AnyBlockSize, clobber=True)

"""When and where the stages run: Prefect flows and Dask engines."""

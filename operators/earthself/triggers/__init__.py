"""Airflow triggers of EarthSelf: what is waited for without a worker."""

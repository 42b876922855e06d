"""Airflow hooks of EarthSelf: what an Airflow connection becomes."""

"""What lives in Airflow's web server: the estimate, and the published files of runs."""

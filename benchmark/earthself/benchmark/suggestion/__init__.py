"""From a need to an answer: what an offer would take and cost for this job, how sure that is, and which is to be preferred."""

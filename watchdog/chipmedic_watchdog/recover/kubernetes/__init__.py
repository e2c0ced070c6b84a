"""Kubernetes: how nodes are cordoned and the pods of jobs evicted, so that others start elsewhere.

| file | |
|---|---|
| `adapter.py` | plan, do, confirm; the only part that the engine knows |
| `isolation.py` | what a node looks like while it is out, and whose doing that is |
| `restart.py` | from the eviction of a job's pods to others that run |
| `job_search.py` | which job a pod belongs to |
| `owners.py`, `judges.py` | what starts a pod again, and whether it would |
| `node_cache.py` | all nodes, by list and watch |
| `node_names.py` | which node an agent's name stands for |
| `cluster.py` | what is asked of the API server |
| `connection.py`, `answers.py` | the way there: timeouts, retries, and what a refusal means |
| `objects.py` | nodes and pods as far as we read them |
| `settings.py` | `[recover.kubernetes]` |
"""

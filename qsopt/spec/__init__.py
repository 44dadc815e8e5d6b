"""What is asked about, as plain records: models, number formats, hardware, workloads, deployments,
efficiencies, worlds without a penalty, and the service that joins cluster, workload and efficiency.
"""

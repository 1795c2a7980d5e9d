"""Put the warnings of all jobs into one table, which the page shows and the release contains.

A row is a fact, not a job: what several jobs warn of in the same words is there once, so the table depends
neither on shards nor on cell types per job. The config may make a code an error after the step that warned
of it is done; then this job fails.
"""

from job import WARNING_COLUMNS, conclude, gather_warnings, job, raise_if_error, read_warnings, write_rows

if __name__ == "__main__":
    with job(snakemake) as out:
        rows = [row for path in snakemake.input.tables for row in read_warnings(path)]
        raise_if_error(rows, snakemake.params.error)
        rows = gather_warnings(rows, accept=snakemake.params.accept)
        write_rows(out.table, [*WARNING_COLUMNS, "accepted"], rows)
        conclude(f"{len(rows)} warnings")

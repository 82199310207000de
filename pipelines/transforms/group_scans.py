"""Find scans of one bag and equal scans in a pipeline of records, and move them to one split."""

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from shards.curation import near_duplicates, neighbours
from shards.curation.bags import connect_keys
from shards.curation.groups import connect_pairs, find_moves, find_near_equal_leaks, move_records
from shards.curation.leakage import Member


def group_neighbours(refs: beam.PCollection[bytes]) -> beam.PCollection[bytes]:
    """Add to a pipeline what gives scans of neighbouring numbers that look alike their group."""
    first_of = (
        refs
        | "LookAtScans" >> beam.Map(neighbours.look_at_records)
        | "SpreadLooks" >> beam.FlatMap(neighbours.spread_looks)
        # (range of series and blocks of numbers, batch of (block, Look))
        | "GroupByBlock" >> beam.GroupByKey()
        | "FindLinks" >> beam.FlatMapTuple(lambda _, batches: neighbours.find_links(batches))
        | "GatherLinks" >> beam.combiners.ToList()
        # [(key, key)]
        | "ConnectLinks" >> beam.Map(connect_keys)
    )
    return refs | "GroupRecords" >> beam.Map(neighbours.group_records, AsSingleton(first_of))


def move_groups(
    refs: beam.PCollection[bytes], *, is_moved: bool, with_perceptual: bool
) -> tuple[beam.PCollection[bytes], beam.PCollection[Member]]:
    """Add to a pipeline what finds equal scans: the records, moved if asked, and near-equal scans in several splits."""
    found = (
        refs
        | "FingerprintScans" >> beam.Map(near_duplicates.fingerprint_records, with_perceptual=with_perceptual)
        | "SpreadBands" >> beam.FlatMap(near_duplicates.spread_bands)
        # (range of what they may have in common, batch of Fingerprint)
        | "GroupByBand" >> beam.GroupByKey()
        | "FindPairs" >> beam.FlatMapTuple(lambda _, batches: near_duplicates.find_pairs(batches))
        | "GatherPairs" >> beam.combiners.ToList()
        # [Pair]
    )
    moves = found | "FindMoves" >> beam.Map(lambda pairs: find_moves(connect_pairs(pairs)) if is_moved else {})
    near = found | "FindNearEqual" >> beam.FlatMap(find_near_equal_leaks, AsSingleton(moves))
    return refs | "MoveRecords" >> beam.Map(move_records, AsSingleton(moves)), near

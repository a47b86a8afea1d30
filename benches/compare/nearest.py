"""Finds nearest vectors for a benchmark: faiss, hnswlib or usearch, by the cosine, with two threads.

    pip install faiss-cpu hnswlib usearch
    python3 benches/compare/nearest.py PEER VECTORS.f32 QUERIES.f32 DIMENSION K

PEER is flat, ivf or hnsw (all of faiss), hnswlib or usearch. Reads a line each:

    build                      makes the index
    search RECALL [MODULUS]    answers all queries, of vectors whose place divides by MODULUS if there is one, as quickly as this
                               recall allows
    reach COUNT MODULUS        the COUNT best for the first query (flat only)

and prints seconds and what came of it. The true answers come from faiss' flat index and are not timed.
"""

import sys
import time

import faiss
import numpy

THREADS = 2
EFFORTS = [8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096]


class Faiss:
    def __init__(self, kind, dimension):
        self.kind = kind
        metric = faiss.METRIC_INNER_PRODUCT
        factory = {"flat": "Flat", "ivf": "IVF4096,SQ8", "hnsw": "HNSW16,Flat"}[kind]
        self.index = faiss.index_factory(dimension, factory, metric)

    def build(self, vectors):
        if self.kind == "ivf":
            self.index.train(vectors[:: max(1, len(vectors) // 200_000)])
        self.index.add(vectors)

    def search(self, queries, k, effort, members):
        selected = {} if members is None else {"sel": members}
        if self.kind == "flat":
            params = faiss.SearchParameters(**selected)
        elif self.kind == "ivf":
            params = faiss.SearchParametersIVF(nprobe=effort, **selected)
        else:
            params = faiss.SearchParametersHNSW(efSearch=effort, **selected)
        return self.index.search(queries, k, params=params)[1]


class Hnswlib:
    def __init__(self, dimension):
        import hnswlib

        self.index = hnswlib.Index(space="cosine", dim=dimension)

    def build(self, vectors):
        self.index.init_index(max_elements=len(vectors), ef_construction=200, M=16)
        self.index.add_items(vectors, num_threads=THREADS)

    def search(self, queries, k, effort, members):
        if members is not None:
            raise NotImplementedError("its filter calls Python for each vector")
        self.index.set_ef(max(effort, k))
        return self.index.knn_query(queries, k=k, num_threads=THREADS)[0]


class Usearch:
    def __init__(self, dimension):
        from usearch.index import Index

        self.index = Index(ndim=dimension, metric="cos", dtype="f32", connectivity=16, expansion_add=128)

    def build(self, vectors):
        self.index.add(numpy.arange(len(vectors)), vectors, threads=THREADS)

    def search(self, queries, k, effort, members):
        if members is not None:
            raise NotImplementedError("it has no filters")
        self.index.expansion_search = max(effort, k)
        return self.index.search(queries, k, threads=THREADS).keys


def main():
    name, vectors, queries, dimension, k = sys.argv[1:]
    dimension, k = int(dimension), int(k)
    faiss.omp_set_num_threads(THREADS)
    vectors = numpy.fromfile(vectors, dtype=numpy.float32).reshape(-1, dimension)
    queries = numpy.fromfile(queries, dtype=numpy.float32).reshape(-1, dimension)
    faiss.normalize_L2(vectors)
    faiss.normalize_L2(queries)
    peer = {"hnswlib": Hnswlib, "usearch": Usearch}[name](dimension) if name in ("hnswlib", "usearch") else Faiss(name, dimension)
    print("ready", flush=True)
    truths = {}

    def selector(modulus):
        return None if modulus is None else faiss.IDSelectorBatch(numpy.arange(0, len(vectors), modulus))

    def truth(modulus):
        if modulus not in truths:
            places = numpy.arange(0, len(vectors), modulus or 1)
            flat = faiss.IndexFlatIP(dimension)
            flat.add(vectors[places])
            truths[modulus] = places[flat.search(queries, k)[1]]
        return truths[modulus]

    for line in sys.stdin:
        verb, *arguments = line.split()
        if verb == "build":
            begun = time.perf_counter()
            peer.build(vectors)
            print(time.perf_counter() - begun, "built", flush=True)
        elif verb == "search":
            wanted, modulus = float(arguments[0]), int(arguments[1]) if len(arguments) > 1 else None
            expected, members = truth(modulus), selector(modulus)
            answer = "0 unable"
            for effort in EFFORTS if name != "flat" else [0]:
                try:
                    begun = time.perf_counter()
                    found = peer.search(queries, k, effort, members)
                    seconds = time.perf_counter() - begun
                except NotImplementedError:
                    break
                common = sum(len(numpy.intersect1d(a, b)) for a, b in zip(expected, found))
                recall = common / expected.size
                answer = f"{seconds} {recall:.4f} at {effort}"
                if recall >= wanted:
                    # Again, with everything warm.
                    begun = time.perf_counter()
                    peer.search(queries, k, effort, members)
                    answer = f"{time.perf_counter() - begun} {recall:.4f} at {effort}"
                    break
            print(answer, flush=True)
        elif verb == "reach":
            count, modulus = int(arguments[0]), int(arguments[1])
            members = selector(modulus)
            begun = time.perf_counter()
            found = peer.index.search(queries[:1], count, params=faiss.SearchParameters(sel=members))[1]
            print(time.perf_counter() - begun, found.size, flush=True)


if __name__ == "__main__":
    main()

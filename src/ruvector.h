/* ruvector.h - vector search in one C file. This is the spine: the amalgamated header at the top of
   the repository is this file with its quoted includes expanded.

   Build: in exactly one C or C++ file
       #define RUVECTOR_IMPLEMENTATION
       #include "ruvector.h"
   and #include "ruvector.h" alone everywhere else. Link with -lm (and -lpthread with RV_THREADS).

   Options, defined before the include, the same in every file that includes it:
       RV_STATIC     every function is private to the including file
       RV_API        linkage of public functions; default: extern, extern "C" in C++
       RV_THREADS    adds rv_parallel_threads, a ready-made ctx.parallel
       RV_NO_SIMD    scalar code only
       RV_NO_STDLIB  no C heap: without ctx.alloc every allocation fails
       RV_ASSERT(x)  checks of the library's own invariants; default: off

   Contents: search for the tag, for example ">>hnsw".
       >>base      status codes, the context, memory
       >>simd      what this processor offers
       >>half      f16, bf16 and i8 conversion
       >>mathx     exp, log, softmax, small dense products
       >>csr       sparse matrices in compressed rows
       >>topk      the k smallest of n
       >>distance  metrics, one to one and one to many
       >>hyperbolic  ball, Lorentz sheet, any curvature; embedding of hierarchies
       >>norm      layer, RMS and batch normalization, dropout
       >>position  rotation by position, T5's buckets
       >>loss      losses and regularizers with gradients
       >>info      Fisher information, conjugate gradients, information bottleneck
       >>topology  coherence of a window, persistence, a gate with hysteresis
       >>optim     optimizers, clipping, schedules, curriculum
       >>negatives what to push an anchor away from
       >>affine    tensors in 8, 4 or 16 bits, components bit-packed
       >>lowrank   truncated SVD, Tucker-2
       >>kmeans    clustering
       >>transport sliced, entropic and exact optimal transport
       >>diffusion graph Laplacians, heat
       >>rotate    random orthogonal rotation
       >>pca       principal components
       >>quant     scalar, product, binary and RaBitQ codes
       >>store     keys, filters
       >>image     the format indexes are saved in
       >>flat      exact search
       >>hnsw      graph search
       >>ivf       inverted file
       >>attn      attention
       >>attn_geometric  attention in hyperbolic, spherical and product spaces
       >>attn_info  by Fisher's information, with a bottleneck's rate
       >>attn_topology  behind a gate
       >>attn_report  metrics judged together, recommendations
       >>attn_position  attention with rotation, biases by place, graphs
       >>attn_transport  attention by optimal transport
       >>attn_diffusion  attention by heat over a graph of the keys
       >>attn_heads  multi-head attention with weights, multi-head latent attention
       >>attn_gated  heads behind gates
       >>attn_pair  additive and cosine attention
       >>kv_cache  keys and values of a sequence, in pages, quantized
       >>attn_sparse  attention to few keys: windows, blocks, graphs, the largest logits
       >>gnn       graph attention layers
       >>attn_linear  by features and by recurrence, in linear time
       >>attn_kinds  every attention mechanism by name

   Conventions
       Shapes    row-major; [n, dim] means n rows of dim elements; counts are size_t elements.
       Errors    a function that can fail returns rv_status and writes results through trailing
                 pointers; on failure nothing has changed. ctx->message is one sentence.
       Memory    through ctx->alloc only; objects keep a copy of the allocator they were made with.
       Threads   the library starts none and locks nothing; each part names its class:
                 pure; shared-read (const functions at once, writers alone); caller-locked.
       Distance  smaller is closer. Score: larger is better.
       Random    from ctx->seed only; same seed, instruction set and inputs give the same bits.
       Versions  source compatible within a major version; no binary compatibility promised.
*/
#ifndef RUVECTOR_H
#define RUVECTOR_H

/* ground */
#include "base.h"
#include "simd.h"
#include "half.h"

/* arithmetic */
#include "mathx.h"
#include "csr.h"
#include "topk.h"
#include "distance.h"
#include "hyperbolic.h"

/* building blocks */
#include "norm.h"
#include "position.h"
#include "loss.h"
#include "info.h"
#include "topology.h"
#include "optim.h"
#include "negatives.h"
#include "affine.h"
#include "lowrank.h"
#include "kmeans.h"
#include "transport.h"
#include "diffusion.h"
#include "rotate.h"
#include "pca.h"
#include "image.h"
#include "quant.h"
#include "store.h"

/* features */
#include "flat.h"
#include "hnsw.h"
#include "ivf.h"
#include "attn.h"
#include "attn_geometric.h"
#include "attn_info.h"
#include "attn_topology.h"
#include "attn_report.h"
#include "attn_position.h"
#include "attn_transport.h"
#include "attn_diffusion.h"
#include "attn_heads.h"
#include "attn_gated.h"
#include "attn_pair.h"
#include "attn_sparse.h"
#include "gnn.h"
#include "attn_linear.h"

/* systems */
#include "kv_cache.h"
#include "attn_kinds.h"

#endif /* RUVECTOR_H */

#if defined(RUVECTOR_IMPLEMENTATION) && !defined(RUVECTOR_IMPLEMENTED)
#define RUVECTOR_IMPLEMENTED

/* ground */
#include "base.c"
#include "simd.c"
#include "half.c"

/* arithmetic */
#include "mathx.c"
#include "dense.c"
#include "csr.c"
#include "topk.c"
#include "distance.c"
#include "hyperbolic.c"
#include "hyperbolic_lorentz.c"
#include "hyperbolic_mean.c"
#include "hyperbolic_search.c"
#include "hyperbolic_api.c"
#include "hyperbolic_train.c"

/* building blocks */
#include "norm.c"
#include "position.c"
#include "loss.c"
#include "loss_shape.c"
#include "loss_prob.c"
#include "info.c"
#include "topology.c"
#include "optim.c"
#include "negatives.c"
#include "affine.c"
#include "lowrank.c"
#include "kmeans.c"
#include "transport.c"
#include "transport_plan.c"
#include "diffusion.c"
#include "rotate.c"
#include "pca.c"
#include "image.c"
#include "quant.c"
#include "quant_scalar.c"
#include "quant_pq.c"
#include "quant_rabitq.c"
#include "quant_api.c"
#include "store.c"
#include "code.c"

/* features */
#include "flat.c"
#include "hnsw.c"
#include "hnsw_search.c"
#include "hnsw_build.c"
#include "hnsw_edit.c"
#include "hnsw_query.c"
#include "hnsw_iter.c"
#include "hnsw_image.c"
#include "ivf.c"
#include "ivf_build.c"
#include "ivf_search.c"
#include "ivf_image.c"
#include "attn.c"
#include "attn_back.c"
#include "attn_geometric.c"
#include "attn_geometric_mean.c"
#include "attn_geometric_frechet.c"
#include "attn_geometric_run.c"
#include "attn_geometric_mix.c"
#include "attn_geometric_cascade.c"
#include "attn_info.c"
#include "attn_topology.c"
#include "attn_report.c"
#include "attn_position.c"
#include "attn_position_layer.c"
#include "attn_position_graph.c"
#include "attn_position_cross.c"
#include "attn_transport.c"
#include "attn_centroid.c"
#include "attn_diffusion.c"
#include "attn_heads.c"
#include "attn_mla.c"
#include "attn_gated.c"
#include "attn_pair.c"
#include "attn_sparse.c"
#include "attn_sparse_tile.c"
#include "attn_sparse_run.c"
#include "gnn.c"
#include "gnn_back.c"
#include "attn_linear.c"
#include "attn_linear_sums.c"
#include "attn_linear_run.c"
#include "attn_linear_delta.c"

/* systems */
#include "kv_cache.c"
#include "attn_kinds.c"

/* end */
#include "base_end.inl"

#endif /* RUVECTOR_IMPLEMENTATION */

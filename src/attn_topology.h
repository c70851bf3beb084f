#ifndef RV_ATTN_TOPOLOGY_H
#define RV_ATTN_TOPOLOGY_H
#include "attn.h"
#include "topology.h"

/* >>attn_topology  Attention behind a gate (>>topology): how many keys a query takes follows from
   how well the window hangs together. Shapes, masks, errors, NaN and threads as in >>attn. Thread
   class: pure. */

typedef struct rv_attn_topology_config {
    rv_attn_config base;
    const rv_gate *gate; /* after rv_gate_init; read only: rv_gate_update moves it between calls  */
} rv_attn_topology_config;

/* With w = rv_gate_width(gate, n_k): scaled dot product over the w keys of largest logit (with
   softcap, slopes and masks; ties: the lower index) of those that a query and head see. STABLE is
   rv_attn, FREEZE the best key alone (with sinks: beside them). A query that meets NaN gives NaN.
   Not STABLE: allocates 4 heads n_q (w + 1) bytes and 4 (n_k + dim + 2 w) per lane besides the
   engine's, and logits are computed twice. RV_ERR_ARG without a gate. */
RV_API rv_status rv_attn_topology_gated(rv_ctx *ctx, const rv_attn_topology_config *config,
                                        const rv_attn_io *io);
/* For the same state of the gate; the choice of keys has no slope. */
RV_API rv_status rv_attn_topology_gated_backward(rv_ctx *ctx,
                                                 const rv_attn_topology_config *config,
                                                 const rv_attn_io *io, const rv_attn_grad *grad);

#endif /* RV_ATTN_TOPOLOGY_H */

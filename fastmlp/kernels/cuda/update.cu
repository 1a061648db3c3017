// One update of the whole parameter buffer: one thread a parameter, each array read and written once.
//
// parameters, gradients, velocity, first, second (size,); lr, l2 (M,). `table` (n_blocks, 4) says for each block of
// layout.Block where it ends, how its members lie in it, and whether it holds weights (which alone are penalised).

struct Block { unsigned end, row, per_member, is_weight; };

// In a block the members lie one after the other in each row (of row >= M * per_member numbers).
__device__ inline unsigned member_of(unsigned i, const Block* table, bool* is_weight) {
    unsigned start = 0;
    while (i >= table->end) start = table++->end;
    *is_weight = table->is_weight;
    return (i - start) % table->row / table->per_member;
}

extern "C" __global__ void sgd(const REAL* gradients, const REAL* lr, const REAL* l2, REAL* velocity, REAL* parameters,
                               const Block* table, unsigned size, double momentum, bool nesterov) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    bool is_weight;
    const unsigned member = member_of(i, table, &is_weight);
    REAL p = parameters[i], g = gradients[i];
    if (is_weight) g += 2 * l2[member] * p;                 // d/dp of l2 p^2
    if (velocity) {
        REAL v = REAL(momentum) * velocity[i] + g;
        velocity[i] = v;
        g = nesterov ? g + REAL(momentum) * v : v;
    }
    parameters[i] = p - lr[member] * g;
}

extern "C" __global__ void adam(const REAL* gradients, const REAL* lr, const REAL* l2, const REAL* corrections,
                                REAL* first, REAL* second, REAL* parameters, const Block* table, unsigned size,
                                double beta1, double beta2, double eps, bool decoupled) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    bool is_weight;
    const unsigned member = member_of(i, table, &is_weight);
    REAL p = parameters[i], g = gradients[i], rate = lr[member];
    REAL penalty = is_weight ? 2 * l2[member] : REAL(0);
    if (decoupled) p -= rate * penalty * p;
    else g += penalty * p;
    REAL m = REAL(beta1) * first[i] + REAL(1 - beta1) * g;
    REAL v = REAL(beta2) * second[i] + REAL(1 - beta2) * g * g;
    first[i] = m;
    second[i] = v;
    parameters[i] = p - rate * (m / corrections[0]) / (sqrt(v / corrections[1]) + REAL(eps));
}

// c[m] (N, H) = a[m] (N, K) b[m] (K, H) for M members, any strides of a and b.
//
// Goto & van de Geijn 2008, with one level of blocking, as the layers here are narrow: a panel of b (K_BLOCK deep, as
// wide as VECTORS registers) is copied into the first-level cache; the registers hold a tile of ROWS rows of c of that
// width while it is made. Columns beyond H are computed from zeros and not stored.

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define VECTORS 4
#define ROWS 6              // 24 of 32 registers hold sums
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define VECTORS 2
#define ROWS 6              // 12 of 16
#else
#define VECTOR_BYTES 16
#define VECTORS 4
#define ROWS 4              // 16 of 32 (NEON); with SSE some are spilled
#endif
#define LANES (VECTOR_BYTES / (int64_t)sizeof(REAL))
#define WIDTH (VECTORS * LANES)
#define K_BLOCK 112         // panel: 28 KB; a batch of 100 fits
#define ROW_BLOCK 192       // of a transposed a, copied: 84 KB

typedef REAL Vector __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef REAL LooseVector __attribute__((vector_size(VECTOR_BYTES), may_alias, aligned(sizeof(REAL))));
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

static _Thread_local REAL panel[K_BLOCK * WIDTH] __attribute__((aligned(64)));
static _Thread_local REAL turned[K_BLOCK * ROW_BLOCK] __attribute__((aligned(64)));

typedef struct { const REAL* at; int64_t row, k; } Factor;      // a, with its strides

// What becomes of the old content of c: nothing, or c + a b, or keep c - rate a b, with a rate a column.
typedef enum { SET, ADD, UPDATE } Mode;
static _Thread_local REAL keeps[WIDTH] __attribute__((aligned(64))), rates[WIDTH] __attribute__((aligned(64)));

// c (rows, columns), of which `vectors` registers are needed, from a times the panel.
INLINE void tile(const int rows, const int vectors, REAL* c, int64_t c_row, Factor a, int64_t depth, int64_t columns,
                 const Mode mode) {
    Vector sums[ROWS][VECTORS];
    UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++) sums[i][v] = (Vector){0};
    for (int64_t k = 0; k < depth; k++) {
        const Vector* b = (const Vector*)(panel + k * WIDTH);
        const REAL* column = a.at + k * a.k;
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int v = 0; v < vectors; v++) sums[i][v] += column[i * a.row] * b[v];
    }
    int64_t rest = columns - (vectors - 1) * LANES;             // in the last register
    UNROLL for (int i = 0; i < rows; i++) {
        REAL* to = c + i * c_row;
        UNROLL for (int v = 0; v < vectors; v++, to += LANES) {
            if (v < vectors - 1 || rest == LANES) {
                LooseVector* whole = (LooseVector*)to;
                if (mode == ADD) *whole += sums[i][v];
                else if (mode == UPDATE)
                    *whole = *(Vector*)(keeps + v * LANES) * *whole - *(Vector*)(rates + v * LANES) * sums[i][v];
                else *whole = sums[i][v];
            } else {
                REAL numbers[LANES] __attribute__((aligned(64)));
                *(Vector*)numbers = sums[i][v];
                for (int64_t l = 0; l < rest; l++)
                    if (mode == ADD) to[l] += numbers[l];
                    else if (mode == UPDATE) to[l] = keeps[v * LANES + l] * to[l] - rates[v * LANES + l] * numbers[l];
                    else to[l] = numbers[l];
            }
        }
    }
}

INLINE void rows_of_tiles(const int vectors, REAL* c, int64_t c_row, Factor a, int64_t rows, int64_t depth,
                          int64_t columns, Mode mode) {
    int64_t i = 0;
#define TILES_OF(n)                                                                                         \
    for (; i + n <= rows; i += n)                                                                           \
        tile(n, vectors, c + i * c_row, c_row, (Factor){a.at + i * a.row, a.row, a.k}, depth, columns, mode)
    TILES_OF(ROWS);
    TILES_OF(2);
    TILES_OF(1);
}

static void panel_product(REAL* c, int64_t c_row, Factor a, int64_t rows, int64_t depth, int64_t columns, Mode mode) {
    switch ((columns + LANES - 1) / LANES) {
        case 1: rows_of_tiles(1, c, c_row, a, rows, depth, columns, mode); break;
        case 2: rows_of_tiles(2, c, c_row, a, rows, depth, columns, mode); break;
#if VECTORS > 2
        case 3: rows_of_tiles(3, c, c_row, a, rows, depth, columns, mode); break;
        case 4: rows_of_tiles(4, c, c_row, a, rows, depth, columns, mode); break;
#endif
    }
}

// A part (depth, columns) of b, with strides, into the panel; zeros fill its last register.
static void fill_panel(const REAL* b, int64_t b_k, int64_t b_column, int64_t depth, int64_t columns) {
    int64_t filled = (columns + LANES - 1) / LANES * LANES;
    if (b_column == 1)
        for (int64_t k = 0; k < depth; k++) {
            memcpy(panel + k * WIDTH, b + k * b_k, columns * sizeof(REAL));
            for (int64_t j = columns; j < filled; j++) panel[k * WIDTH + j] = 0;
        }
    else
        for (int64_t j = 0; j < filled; j++)
            for (int64_t k = 0; k < depth; k++) panel[k * WIDTH + j] = j < columns ? b[k * b_k + j * b_column] : 0;
}

// Gradient descent on c in place of c = a b: the rates lr (M,) and penalties 2 l2 of members that have so many columns.
typedef struct { const REAL *lr, *l2; int64_t columns_per_member, first_column; REAL twice; } Update;

static void fill_rates(const Update* update, int64_t first, int64_t columns) {
    for (int64_t j = 0; j < columns; j++) {
        int64_t m = (update->first_column + first + j) / update->columns_per_member;
        rates[j] = update->lr[m];
        keeps[j] = 1 - update->lr[m] * (update->twice * update->l2[m]);
    }
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// One member's product, or a part of it. A transposed a is copied so that its numbers lie as the tiles read them: its
// rows are often 2^n bytes apart and would fall into the same few places of the cache.
static void product(REAL* c, int64_t c_row, Factor a, const REAL* b, int64_t b_k, int64_t b_column, int64_t rows,
                    int64_t depth, int64_t columns, const Update* update) {
    for (int64_t i = 0; i < rows; i += ROW_BLOCK)
        for (int64_t k = 0; k < depth; k += K_BLOCK) {
            int64_t some_rows = smaller(ROW_BLOCK, rows - i), some_depth = smaller(K_BLOCK, depth - k);
            Factor part = {a.at + i * a.row + k * a.k, a.row, a.k};
            if (a.row == 1 && a.k != 1) {
                for (int64_t l = 0; l < some_depth; l++)
                    memcpy(turned + l * ROW_BLOCK, part.at + l * a.k, some_rows * sizeof(REAL));
                part = (Factor){turned, 1, ROW_BLOCK};
            }
            for (int64_t j = 0; j < columns; j += WIDTH) {
                int64_t some_columns = smaller(WIDTH, columns - j);
                fill_panel(b + k * b_k + j * b_column, b_k, b_column, some_depth, some_columns);
                if (update) fill_rates(update, j, some_columns);
                panel_product(c + i * c_row + j, c_row, part, some_rows, some_depth, some_columns,
                              update ? UPDATE : k > 0 ? ADD : SET);
            }
        }
}

// The threads share the columns of a wide b, of which each would otherwise copy all panels, else the rows.
static void shared_product(const Word* arguments, int64_t thread, int64_t threads, Update* update) {
    Array3 c = ARRAY3(0);
    const REAL *a = POINTER(REAL, 3), *b = POINTER(REAL, 7);
    int64_t a_member = INTEGER(4), a_row = INTEGER(5), a_k = INTEGER(6);
    int64_t b_member = INTEGER(8), b_k = INTEGER(9), b_column = INTEGER(10);
    int64_t members = INTEGER(11), rows = INTEGER(12), depth = INTEGER(13), columns = INTEGER(14);
    int wide = columns >= rows && columns >= 2 * WIDTH * threads;
    int64_t grain = wide ? WIDTH : ROWS, length = wide ? columns : rows, grains = (length + grain - 1) / grain;
    Range mine = SHARE(members * grains, 1);
    for (int64_t t = mine.first; t < mine.last;) {
        int64_t m = t / grains, first = t % grains, last = smaller(grains, first + mine.last - t);
        int64_t start = first * grain, some = smaller(length, last * grain) - start;
        int64_t i = wide ? 0 : start, j = wide ? start : 0;
        if (update) update->first_column = j;
        product(ROW(c, m, i) + j, c.row, (Factor){a + m * a_member + i * a_row, a_row, a_k},
                b + m * b_member + j * b_column, b_k, b_column, wide ? rows : some, depth, wide ? some : columns, update);
        t += last - first;
    }
}

OPERATION(matmul) { shared_product(arguments, thread, threads, NULL); }

// A first layer's gradient and its descent at once: c = (1 - lr 2 l2) c - lr a b, K at most K_BLOCK. The gradient itself
// is never written; on a wide population that saves more than half of the traffic with the memory.
OPERATION(matmul_sgd) {
    Update update = {POINTER(REAL, 15), POINTER(REAL, 16), INTEGER(17), 0, NUMBER(18)};
    shared_product(arguments, thread, threads, &update);
}

// parts (P, size)  ->  sum (size,)
OPERATION(add_parts) {
    const REAL* restrict parts = POINTER(REAL, 0);
    REAL* restrict sum = POINTER(REAL, 1);
    int64_t n_parts = INTEGER(2), size = INTEGER(3);
    Range mine = SHARE(size, CACHE_LINE);
    for (int64_t k = mine.first; k < mine.last; k++) sum[k] = parts[k];
    for (int64_t p = 1; p < n_parts; p++)
        for (int64_t k = mine.first; k < mine.last; k++) sum[k] += parts[p * size + k];
}

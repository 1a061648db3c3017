// Losses with their gradients. Each row's share of the loss goes to `parts` (M, N); `sum_parts` adds them up.
//
// logits, glogits (M, N, C), targets (N, C), weights (N,)  ->  parts (M, N), glogits

// Of each target the share `kept` is left, and `spread` added to it.
OPERATION(cross_entropy) {
    Array3 logits = ARRAY3(0), glogits = ARRAY3(3);
    const REAL *targets = POINTER(REAL, 6), *weights = POINTER(REAL, 7);
    REAL* parts = POINTER(REAL, 8);
    int64_t members = INTEGER(9), n = INTEGER(10), c = INTEGER(11);
    Range mine = SHARE(members * n, 1);
    REAL kept = NUMBER(12), spread = NUMBER(13);
    EACH(r, mine.first, mine.last) {
        int64_t m = r / n, i = r % n;
        const REAL *z = ROW(logits, m, i), *t = targets + i * c;
        REAL *g = ROW(glogits, m, i), highest = z[0], total = 0, correct = 0;
        EACH(k, 1, c) highest = z[k] > highest ? z[k] : highest;
        EACH(k, 0, c) {
            REAL shifted = z[k] - highest;
            correct += (kept * t[k] + spread) * shifted;
            total += g[k] = EXP(shifted);
        }
        parts[r] = weights[i] * (LOG(total) - correct);
        EACH(k, 0, c) g[k] = weights[i] * (g[k] / total - (kept * t[k] + spread));
    }
}

OPERATION(hinge) {
    Array3 logits = ARRAY3(0), glogits = ARRAY3(3);
    const REAL *targets = POINTER(REAL, 6), *weights = POINTER(REAL, 7);
    REAL* parts = POINTER(REAL, 8);
    int64_t members = INTEGER(9), n = INTEGER(10), c = INTEGER(11);
    Range mine = SHARE(members * n, 1);
    EACH(r, mine.first, mine.last) {
        int64_t m = r / n, i = r % n;
        const REAL *z = ROW(logits, m, i), *t = targets + i * c;
        REAL *g = ROW(glogits, m, i), correct = 0, loss = 0, violations = 0;
        EACH(k, 0, c) correct += z[k] * t[k];
        EACH(k, 0, c) {
            REAL margin = z[k] - correct + 1 - t[k];
            loss += margin < 0 ? 0 : margin;                    // NaN stays NaN
            violations += g[k] = margin > 0;
        }
        parts[r] = weights[i] * loss;
        EACH(k, 0, c) g[k] = weights[i] * (g[k] - t[k] * violations);
    }
}

// parts (M, N)  ->  loss (M,)
OPERATION(sum_parts) {
    const REAL* parts = POINTER(REAL, 0);
    REAL* loss = POINTER(REAL, 1);
    int64_t n = INTEGER(3);
    Range mine = SHARE(INTEGER(2), 1);
    EACH(m, mine.first, mine.last) {
        double total = 0;
        EACH(i, 0, n) total += parts[m * n + i];
        loss[m] = (REAL)total;
    }
}

// logits (M, N, C), labels (N,), counts (N,)  ->  correct (M,): the counts whose label has the highest logit, the first
// of equal ones.
OPERATION(count_correct) {
    Array3 logits = ARRAY3(0);
    const int64_t* labels = POINTER(int64_t, 3);
    const REAL* counts = POINTER(REAL, 4);
    REAL* correct = POINTER(REAL, 5);
    int64_t n = INTEGER(7), c = INTEGER(8);
    Range mine = SHARE(INTEGER(6), 1);
    EACH(m, mine.first, mine.last) {
        double total = 0;
        EACH(i, 0, n) {
            const REAL* z = ROW(logits, m, i);
            int64_t best = 0;
            EACH(k, 1, c) if (z[k] > z[best] || (z[k] != z[k] && z[best] == z[best])) best = k;   // NaN counts as highest
            total += best == labels[i] ? counts[i] : 0;
        }
        correct[m] = (REAL)total;
    }
}

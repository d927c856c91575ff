"""Answers to every exercise: two right ones, written differently, and five wrong ones that a student may well write."""

import math

import numpy as np
import scipy.linalg
import scipy.special
import scipy.stats
import torch

norm = np.linalg.norm
unit = lambda x: x / norm(x, axis=-1, keepdims=True)
q_of = lambda keep, uniform, v, mask: np.block([[keep * np.eye(v) + uniform / v, np.zeros((v, 1))],
                                                [np.full((1, v), mask), np.ones((1, 1))]])


def matrix_by_columns(keep, uniform, v):
    columns = [np.append(np.full(v, uniform / v), 1 - keep - uniform) for _ in range(v)]
    for code, column in enumerate(columns):
        column[code] += keep
    return np.stack([*columns, np.eye(v + 1)[v]], axis=1)


def bayes(x_n, x_0, step, before):
    return step[x_n] * before[:, x_0] / (step[x_n] * before[:, x_0]).sum()


def exact_integral(x_t, a, s, m, d):
    precision = 1 / d ** 2 + a ** 2 / s ** 2
    return (m / d ** 2 + a * x_t / s ** 2) / precision


log_normal = lambda logs: logs - scipy.special.logsumexp(logs)


def truncated_by_loop(p, rate):
    kept, mass = np.zeros(len(p)), 0.0
    for code in np.argsort(-p, kind="stable"):
        if mass >= rate:
            break
        kept[code], mass = p[code], mass + p[code]
    return kept / kept.sum()


def truncated_by_rank(p, rate, before=True, renormalised=True):
    order = np.argsort(-p, kind="stable")
    mass = np.cumsum(p[order])
    kept = np.zeros(len(p))
    chosen = order[(mass - p[order] < rate) if before else (mass <= rate)]
    kept[chosen] = p[chosen]
    return kept / kept.sum() if renormalised else kept


cosines = lambda query, database: unit(database) @ query
best = lambda scores, k: np.argsort(-scores, kind="stable")[:k]


def best_by_loop(query, database, k):
    scores, found = cosines(query, database).copy(), []
    for _ in range(k):
        found.append(scores.argmax())
        scores[found[-1]] = -np.inf
    return found


def masked(query, database, allowed, k):
    return best(np.where(allowed, cosines(query, database), -np.inf), k)


def masked_rows(query, database, allowed, k):
    rows = np.flatnonzero(allowed)
    return rows[best(cosines(query, database[rows]), k)]


def dropped(row, database, k):
    found = best(cosines(database[row], database), k + 1)
    return found[found != row][:k]


def silenced(row, database, k):
    scores = cosines(database[row], database)
    scores[row] = -2
    return best(scores, k)


degrees_of = lambda a, b: np.degrees(np.arccos(np.clip(unit(a) @ unit(b), -1, 1)))
holds = lambda picture, text, near, pick=min, than=np.greater: float(
    than(cosines(picture, text[None])[0] / norm(picture), pick(cosines(picture, near) / norm(picture))))
softmax = lambda scores, axis=-1: scipy.special.softmax(scores, axis)


def turned(a, b, share):
    whole = np.arccos(a @ b)
    return (np.sin((1 - share) * whole) * a + np.sin(share * whole) * b) / np.sin(whole)


def rotated(a, b, share):
    """In the plane of a and b, by a complex number."""
    aside = unit(b - (a @ b) * a)
    point = np.exp(1j * share * np.arctan2(aside @ b, a @ b))
    return point.real * a + point.imag * aside


root = lambda m: scipy.linalg.sqrtm(m).real
fd = lambda m1, c1, m2, c2, trace: ((m1 - m2) ** 2).sum() + trace


def fd_symmetric(m1, c1, m2, c2):
    half = root(c1)
    return fd(m1, c1, m2, c2, np.trace(c1 + c2) - 2 * np.sqrt(np.linalg.eigvalsh(half @ c2 @ half).clip(0)).sum())


def by_beta(hits, trials):
    return (scipy.stats.beta.ppf(0.025, hits, trials - hits + 1) if hits else 0.0,
            scipy.stats.beta.ppf(0.975, hits + 1, trials - hits) if hits < trials else 1.0)


def wald(hits, trials):
    share = hits / trials
    half = 1.96 * (share * (1 - share) / trials) ** 0.5
    return share - half, share + half


def ball_share(real, drawn, k, itself=True):
    between = norm(real[:, None] - real[None], axis=2)
    radius = np.sort(between, axis=1)[:, k if itself else k - 1]
    return (norm(drawn[:, None] - real[None], axis=2) <= radius).any(1).mean()


def ball_share_by_loop(real, drawn, k):
    radii = [sorted(norm(a - b) for m, b in enumerate(real) if m != n)[k - 1] for n, a in enumerate(real)]
    return np.mean([any(norm(point - a) <= radius for a, radius in zip(real, radii, strict=True)) for point in drawn])


floats = lambda picture: picture.astype(float) / 255
within = lambda nearest, limit: (nearest <= limit).mean()

RIGHT = {
    "transition_matrix": [lambda a, u, v: q_of(a, u, v, 1 - a - u), matrix_by_columns],
    "posterior": [bayes,
                  lambda x_n, x_0, step, before: (np.diag(step[x_n]) @ before)[:, x_0] / (step @ before)[x_n, x_0]],
    "bound_term": [lambda q, p: scipy.stats.entropy(q, p),
                   lambda q, p: sum(a * (np.log(a) - np.log(b)) for a, b in zip(q, p, strict=True) if a)],
    "noised": [lambda x, e, a: a * x + (1 - a * a) ** 0.5 * e,
               lambda x, e, a: torch.from_numpy(np.cos(np.arccos(a)) * x + np.sin(np.arccos(a)) * e)],
    "gaussian_denoiser": [exact_integral, lambda x, a, s, m, d: m + a * d * d / (a * a * d * d + s * s) * (x - a * m)],
    "ddim_step": [lambda x, x0, t, s: s * x0 + ((1 - s * s) / (1 - t * t)) ** 0.5 * (x - t * x0),
                  lambda x, x0, t, s: [s * o + math.sin(math.acos(s)) * (n - t * o) / math.sin(math.acos(t))
                                       for n, o in zip(x, x0, strict=True)]],
    "guided": [lambda g, n, scale: log_normal(n + scale * (g - n)),
               lambda g, n, scale: torch.from_numpy((1 - scale) * n + scale * g).log_softmax(-1)],
    "truncated": [truncated_by_loop, truncated_by_rank],
    "two_codes": [lambda g, n, scale: scipy.special.expit((1 - scale) * scipy.special.logit(n)
                                                          + scale * scipy.special.logit(g)),
                  lambda g, n, scale: (lambda a, b: a / (a + b))(n * (g / n) ** scale,
                                                                 (1 - n) * ((1 - g) / (1 - n)) ** scale)],
    "nearest": [lambda query, database, k: best(cosines(query, database), k), best_by_loop],
    "without_itself": [dropped, silenced],
    "nearest_allowed": [masked, masked_rows],
    "ridge": [lambda x, y, c: np.linalg.solve(x.T @ x + c * np.eye(x.shape[1]), x.T @ y),
              lambda x, y, c: x.T @ np.linalg.solve(x @ x.T + c * np.eye(len(x)), y)],
    "angle": [degrees_of, lambda a, b: 2 * np.degrees(np.arctan2(norm(unit(a) - unit(b)), norm(unit(a) + unit(b))))],
    "cone_holds": [holds, lambda picture, text, near: int(
        degrees_of(picture, text) < max(degrees_of(picture, one) for one in near))],
    "modality_gap": [lambda a, b: norm(a.mean(0) - b.mean(0)),
                     lambda a, b: ((a.sum(0) / len(a) - b.sum(0) / len(b)) ** 2).sum() ** 0.5],
    "attention": [lambda q, k: softmax(q @ k.T / q.shape[1] ** 0.5),
                  lambda q, k: torch.from_numpy(q / q.shape[1] ** 0.5 @ k.T).softmax(1)],
    "entropy": [lambda p: scipy.stats.entropy(p, axis=1),
                lambda p: -np.where(p > 0, p * np.log(p + (p == 0)), 0).sum(1)],
    "slerp": [turned, rotated],
    "frechet": [fd_symmetric, lambda m1, c1, m2, c2: fd(m1, c1, m2, c2, np.trace(c1 + c2 - 2 * root(c1 @ c2)))],
    "share_interval": [lambda hits, trials: scipy.stats.binomtest(hits, trials).proportion_ci(method="exact"), by_beta],
    "precision": [ball_share, ball_share_by_loop],
    "colour_distance": [lambda a, b: ((floats(a) - floats(b)) ** 2).mean() ** 0.5,
                        lambda a, b: norm((a.astype(int) - b).ravel()) / 255 / a.size ** 0.5],
    "share_of_copies": [lambda near, own: within(near, np.quantile(own, 0.95)),
                        lambda near, own: sum(near <= np.percentile(own, 95)) / len(near)],
    "paired_gain": [lambda a, b: ((a - b).mean(), (a - b).std(ddof=1) / len(a) ** 0.5),
                    lambda a, b: [a.mean() - b.mean(), scipy.stats.sem(a - b)]],
    "mixed": [lambda i, nn, m: np.where(m[..., None], nn, i),
              lambda i, nn, m: i * (1 - m[..., None]) + nn * m[..., None]],
    "guided_twice": [lambda o, i, b, si, st: log_normal(o + si * (i - o) + st * (b - i)),
                     lambda o, i, b, si, st: torch.from_numpy((1 - si) * o + (si - st) * i + st * b).log_softmax(-1)],
    "nearer": [lambda e, s, t: (norm(e - t, axis=1) < norm(s - t, axis=1)).mean(),
               lambda e, s, t: sum(((a - c) ** 2).sum() < ((b - c) ** 2).sum() for a, b, c in zip(e, s, t, strict=True))
               / len(e)],
    "kept_db": [lambda e, s, m: -10 * np.log10(((floats(e) - floats(s))[~m] ** 2).mean()),
                lambda e, s, m: 20 * math.log10(255) - 10 * math.log10(
                    ((e.astype(int) - s) ** 2 * ~m[..., None]).sum() / (~m).sum() / 3)]}

WRONG = {
    "transition_matrix": [
        lambda a, u, v: q_of(a, u, v, 1 - a - u).T, lambda a, u, v: q_of(a, u * v, v, 1 - a - u),
        lambda a, u, v: q_of(a - u / v, u, v, 1 - a - u), lambda a, u, v: q_of(a, u, v, 1 - a - u)[:v, :v],
        lambda a, u, v: q_of(a, u, v, 1 - a - u) * (np.arange(v + 1) < v)],
    "posterior": [
        lambda x_n, x_0, step, before: step[x_n] * before[:, x_0], lambda x_n, x_0, step, before: before[:, x_0],
        lambda x_n, x_0, step, before: bayes(x_n, x_0, step.T, before),
        lambda x_n, x_0, step, before: bayes(x_n, x_0, step, before.T),
        lambda x_n, x_0, step, before: bayes(x_n, x_0, step, step @ before)],
    "bound_term": [
        lambda q, p: scipy.stats.entropy(p + 1e-12, q + 1e-12), lambda q, p: scipy.stats.entropy(q, p, base=2),
        lambda q, p: scipy.stats.entropy(q, p) / len(q), lambda q, p: float((q * np.log(q / p)).sum()),
        lambda q, p: -float((q * np.log(p)).sum())],
    "noised": [
        lambda x, e, a: a * x + (1 - a) * e, lambda x, e, a: a ** 0.5 * x + (1 - a) ** 0.5 * e,
        lambda x, e, a: a * x + e,
        lambda x, e, a: a * e + (1 - a * a) ** 0.5 * x, lambda x, e, a: a * x + (1 - a * a) * e],
    "gaussian_denoiser": [
        lambda x, a, s, m, d: x / a, lambda x, a, s, m, d: m,
        lambda x, a, s, m, d: m + a / (a * a + s * s) * (x - a * m),
        lambda x, a, s, m, d: m + a * d / (a * a * d + s * s) * (x - a * m),
        lambda x, a, s, m, d: m + a * d * d / (a * a * d * d + s * s) * (x - m)],
    "ddim_step": [
        lambda x, x0, t, s: s * x0 + (1 - s * s) ** 0.5 * x, lambda x, x0, t, s: s * x0,
        lambda x, x0, t, s: s / max(t, 1e-9) * x,
        lambda x, x0, t, s: s * x0 + ((1 - s) / (1 - t)) ** 0.5 * (x - t * x0), lambda x, x0, t, s: x + (s - t) * x0],
    "guided": [
        lambda g, n, scale: n + scale * (g - n), lambda g, n, scale: log_normal(g + scale * (g - n)),
        lambda g, n, scale: log_normal(g + scale * (n - g)), lambda g, n, scale: log_normal(scale * g),
        lambda g, n, scale: softmax(n + scale * (g - n))],
    "truncated": [
        lambda p, rate: truncated_by_rank(p, rate, before=False) if p.max() <= rate else np.eye(len(p))[p.argmax()],
        lambda p, rate: truncated_by_rank(p, rate, renormalised=False), lambda p, rate: p * (p >= rate),
        lambda p, rate: np.sort(truncated_by_rank(p, rate))[::-1],
        lambda p, rate: (lambda kept: kept / kept.sum())(np.where(np.cumsum(p) - p < rate, p, 0))],
    "two_codes": [
        lambda g, n, scale: n + scale * (g - n), lambda g, n, scale: min(max(n + scale * (g - n), 0), 1),
        lambda g, n, scale: g ** scale / (g ** scale + (1 - g) ** scale),
        lambda g, n, scale: scipy.special.expit((1 + scale) * scipy.special.logit(g) - scale * scipy.special.logit(n)),
        lambda g, n, scale: n * (g / n) ** scale],
    "nearest": [
        lambda query, database, k: best(-cosines(query, database), k),
        lambda query, database, k: best(database @ query, k),
        lambda query, database, k: np.sort(best(cosines(query, database), k)),
        lambda query, database, k: best(cosines(query, database), k + 1)[1:],
        lambda query, database, k: best(-norm(database - query, axis=1), k)],
    "without_itself": [
        lambda row, database, k: best(cosines(database[row], database), k + 1)[1:],
        lambda row, database, k: best(cosines(database[row], database), k),
        lambda row, database, k: (lambda found: found[found != row])(best(cosines(database[row], database), k)),
        lambda row, database, k: best(cosines(database[row], np.delete(database, row, 0)), k),
        lambda row, database, k: [n for n in best(-norm(database - database[row], axis=1), k + 1) if n != row][:k]],
    "nearest_allowed": [
        lambda query, database, allowed, k: best(cosines(query, database[allowed]), k),
        lambda query, database, allowed, k: best(cosines(query, database), k),
        lambda query, database, allowed, k: (lambda found: found[allowed[found]])(best(cosines(query, database), k)),
        lambda query, database, allowed, k: masked(query, database, ~allowed, min(k, (~allowed).sum())),
        lambda query, database, allowed, k: best(cosines(query, database) * allowed, k)],
    "ridge": [
        lambda x, y, c: np.linalg.lstsq(x, y, rcond=None)[0],
        lambda x, y, c: np.linalg.solve(x.T @ x + c ** 2 * np.eye(x.shape[1]), x.T @ y),
        lambda x, y, c: np.linalg.solve(x.T @ x / len(x) + c * np.eye(x.shape[1]), x.T @ y / len(x)),
        lambda x, y, c: np.linalg.solve(x.T @ x + c, x.T @ y), lambda x, y, c: x.T @ y / (1 + c)],
    "angle": [
        lambda a, b: np.arccos(np.clip(unit(a) @ unit(b), -1, 1)),
        lambda a, b: np.degrees(np.arccos(np.clip(a @ b, -1, 1))),
        lambda a, b: unit(a) @ unit(b), lambda a, b: np.degrees(np.arccos(abs(np.clip(unit(a) @ unit(b), -1, 1)))),
        lambda a, b: np.degrees(norm(unit(a) - unit(b)))],
    "cone_holds": [
        lambda p, t, near: holds(p, t, near, max), lambda p, t, near: holds(p, t, near, min, np.less),
        lambda p, t, near: float(norm(p - t) < norm(near - p, axis=1).max()),
        lambda p, t, near: holds(p, t, near, np.mean), lambda p, t, near: float(p @ t > (near @ p).min())],
    "modality_gap": [
        lambda a, b: a.mean(0) - b.mean(0), lambda a, b: abs(a.mean() - b.mean()),
        lambda a, b: ((a.mean(0) - b.mean(0)) ** 2).sum(),
        lambda a, b: norm(a.sum(0) - b.sum(0)), lambda a, b: norm(a[:, None] - b[None], axis=2).mean()],
    "attention": [
        lambda q, k: softmax(q @ k.T), lambda q, k: softmax(q @ k.T / q.shape[1]),
        lambda q, k: softmax(q @ k.T / q.shape[1] ** 0.5, 0),
        lambda q, k: q @ k.T / q.shape[1] ** 0.5, lambda q, k: softmax(k @ q.T / q.shape[1] ** 0.5)],
    "entropy": [
        lambda p: -(p * np.log(p)).sum(1), lambda p: scipy.stats.entropy(p, axis=1, base=2),
        lambda p: -scipy.stats.entropy(p, axis=1),
        lambda p: scipy.stats.entropy(p, axis=1).mean(), lambda p: -(p * np.log(p + 1e-3)).sum(1)],
    "slerp": [
        lambda a, b, share: (1 - share) * a + share * b, lambda a, b, share: unit((1 - share) * a + share * b),
        lambda a, b, share: turned(b, a, share), lambda a, b, share: unit(a) if share < 0.5 else unit(b),
        lambda a, b, share: np.cos(share * np.pi / 2) * a + np.sin(share * np.pi / 2) * b],
    "frechet": [
        lambda m1, c1, m2, c2: fd(m1, c1, m2, c2, np.trace(c1 + c2)),
        lambda m1, c1, m2, c2: fd(m1, c1, m2, c2, norm(c1 - c2) ** 2),
        lambda m1, c1, m2, c2: fd_symmetric(m1, c1, m2, c2) ** 0.5,
        lambda m1, c1, m2, c2: fd(m1, c1, m2, c2, np.trace(c1 + c2) - 2 * np.trace(np.sqrt(abs(c1 @ c2)))),
        lambda m1, c1, m2, c2: norm(m1 - m2) + fd_symmetric(m1, c1, m1, c2)],
    "share_interval": [
        wald, lambda hits, trials: scipy.stats.binomtest(hits, trials).proportion_ci(method="wilson"),
        lambda hits, trials: np.clip(wald(hits, trials), 0, 1),
        lambda hits, trials: scipy.stats.beta.ppf([0.025, 0.975], hits + 1, trials - hits + 1),
        lambda hits, trials: scipy.stats.binomtest(hits, trials).proportion_ci(0.9, "exact")],
    "precision": [
        lambda real, drawn, k: ball_share(drawn, real, k),
        lambda real, drawn, k: ball_share(real, drawn, k, itself=False),
        lambda real, drawn, k: 1 - ball_share(real, drawn, k),
        lambda real, drawn, k: ball_share(real, drawn, min(k + 1, len(real) - 1)),
        lambda real, drawn, k: ball_share(np.vstack([real, drawn]), drawn, k)],
    "colour_distance": [
        lambda a, b: ((a - b) ** 2).mean() ** 0.5 / 255, lambda a, b: ((floats(a) - floats(b)) ** 2).mean(),
        lambda a, b: abs(floats(a) - floats(b)).mean(), lambda a, b: ((a.astype(float) - b) ** 2).mean() ** 0.5,
        lambda a, b: norm((floats(a) - floats(b)).ravel())],
    "share_of_copies": [
        lambda near, own: within(near, np.quantile(own, 0.05)), lambda near, own: within(near, own.max()),
        lambda near, own: within(-near, -np.quantile(own, 0.95)), lambda near, own: within(near, own.mean()),
        lambda near, own: (near <= np.quantile(own, 0.95)).sum()],
    "paired_gain": [
        lambda a, b: ((a - b).mean(), (a - b).std() / len(a) ** 0.5),
        lambda a, b: ((a - b).mean(), (a - b).std(ddof=1)),
        lambda a, b: ((b - a).mean(), (a - b).std(ddof=1) / len(a) ** 0.5),
        lambda a, b: ((a - b).mean(), ((a.var(ddof=1) + b.var(ddof=1)) / len(a)) ** 0.5), lambda a, b: (a - b).mean()],
    "mixed": [
        lambda i, nn, m: np.where(m[..., None], i, nn), lambda i, nn, m: i * (1 - m[..., None]),
        lambda i, nn, m: (i.astype(int) + nn * m[..., None]) / 2, lambda i, nn, m: nn * m[..., None],
        lambda i, nn, m: np.where(m, nn[..., 0], i[..., 0])],
    "guided_twice": [
        lambda o, i, b, si, st: o + si * (i - o) + st * (b - i),
        lambda o, i, b, si, st: log_normal(o + st * (i - o) + si * (b - i)),
        lambda o, i, b, si, st: log_normal(o + si * (i - o) + st * (b - o)),
        lambda o, i, b, si, st: log_normal(i + st * (b - i)), lambda o, i, b, si, st: log_normal(si * i + st * b)],
    "nearer": [
        lambda e, s, t: (norm(e - t, axis=1) <= norm(s - t, axis=1)).mean(),
        lambda e, s, t: (norm(e - t, axis=1) < norm(e - s, axis=1)).mean(),
        lambda e, s, t: norm(e - t, axis=1).mean() < norm(s - t, axis=1).mean(),
        lambda e, s, t: (norm(e - t, axis=1) < norm(s - t, axis=1)).sum(),
        lambda e, s, t: (norm(e - t, axis=1) > norm(s - t, axis=1)).mean()],
    "kept_db": [
        lambda e, s, m: -10 * np.log10(((floats(e) - floats(s))[m] ** 2).mean()),
        lambda e, s, m: -10 * np.log10(((floats(e) - floats(s)) ** 2).mean()),
        lambda e, s, m: 10 * np.log10(255 ** 2 / ((e - s)[~m].astype(float) ** 2).mean()),
        lambda e, s, m: -10 * np.log10(((floats(e) - floats(s)) ** 2 * ~m[..., None]).mean()),
        lambda e, s, m: -20 * np.log10(np.abs(floats(e) - floats(s))[~m].mean())]}

"""What a shell, a loader or timeout(1) says when a tool did not run: the same for all vendors."""

from __future__ import annotations

import re

from chipmedic.tool_report import Problem, ProblemKind, ToolRun

EXIT_TIMED_OUT = 124
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
_KILLED = frozenset({EXIT_TIMED_OUT, 128 + 6, 128 + 9, 128 + 11, 128 + 15, -6, -9, -11, -15})

# The order decides: a loader names its missing library with "No such file or directory" too.
_SENTENCES: tuple[tuple[ProblemKind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (ProblemKind.DRIVER_DOWN, r"error while loading shared librar|symbol lookup error"),
        (ProblemKind.DRIVER_DOWN, r"version `[^']*' not found"),
        (ProblemKind.PERMISSION, r"failed to run command.*permission denied"),
        (ProblemKind.PERMISSION, r"^[^|]*:\s*(?:permission denied|operation not permitted)\s*$"),
        (ProblemKind.UNSUPPORTED, r"cannot execute binary file|exec format error"),
        (ProblemKind.TOOL_MISSING, r"command not found|未找到命令|commande introuvable"),
        (ProblemKind.TOOL_MISSING, r"找不到命令|コマンドが見つかりません|명령을 찾을 수 없"),
        (ProblemKind.TOOL_MISSING, r"befehl nicht gefunden|не найдена|orden no encontrada"),
        (ProblemKind.TOOL_MISSING, r"comando n(?:ão encontrado|on trovato)"),
        (ProblemKind.TOOL_MISSING, r"^command '\S+' not found|\bunknown command: \S+\s*$"),
        (ProblemKind.TOOL_MISSING, r"is not a typo you can use command-not-found"),
        (ProblemKind.TOOL_MISSING, r"^FileNotFoundError: .*no such file or directory: '[\w.-]+'"),
        (ProblemKind.TOOL_MISSING, r"executable file not found in \$?PATH"),
        (ProblemKind.TOOL_MISSING, r"is not recognized as (?:an internal|the name of)"),
        (
            ProblemKind.TOOL_MISSING,
            r"(?:failed to run command|execv?[ep]?|spawn|cannot run).*no such",
        ),
        (ProblemKind.TOOL_MISSING, r"^(?:\S+: )?(?:line )?\d+: \S+: not found\s*$"),
        (
            ProblemKind.TOOL_MISSING,
            r"^(?:ba|da|z|k|a)?sh: .*(?:not found|no such file or directory)",
        ),
        (
            ProblemKind.TOOL_MISSING,
            r"^(?:sudo|env|timeout|nice|xargs): .*(?:not found|no such file)",
        ),
        (ProblemKind.TRUNCATED, r"segmentation fault|core dumped|^(?:killed|terminated)$"),
    )
)


def shell_failure(run: ToolRun) -> Problem | None:
    """Say why the tool itself did not run or did not end; None when nothing tells so.

    Sentences are looked for on stderr, and on stdout where both were caught in one file. Exit
    statuses 124, 126, 127 and those of a killed process count only where no sentence explains them.
    """
    for line in (*run.stderr.splitlines(), *run.stdout.splitlines()[:5]):
        for kind, sentence in _SENTENCES:
            if sentence.search(line.strip()):
                return Problem(kind, line.strip())
    if run.exit_code == EXIT_NOT_FOUND:
        return Problem(ProblemKind.TOOL_MISSING, "exit status 127: the command was not found")
    if run.exit_code == EXIT_NOT_EXECUTABLE:
        return Problem(ProblemKind.PERMISSION, "exit status 126: the command is not executable")
    return ended_early(run.exit_code)


def tells_tool_missing(line: str) -> bool:
    """Say whether a line is no part of an answer, but a shell's that found no such tool."""
    failure = shell_failure(ToolRun((), "", line))
    return failure is not None and failure.kind is ProblemKind.TOOL_MISSING


def ended_early(exit_code: int | None) -> Problem | None:
    """Say that a tool was ended by a signal or timeout(1): what it printed may not be all.

    True also of an answer that reads well. A table without a line below its last row looks whole
    wherever it stops between two rows, and the chips that are not in it would be taken for lost.
    """
    if exit_code not in _KILLED:
        return None
    return Problem(ProblemKind.TRUNCATED, f"exit status {exit_code}: ended before it was done")

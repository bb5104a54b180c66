"""What went wrong between us and the Hugging Face hub, in words that say what to do."""

from __future__ import annotations

from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, RepositoryNotFoundError

from ocrsmith.errors import OcrsmithError, OutputError, SettingsError

_RESUME = "Run the same again: what has arrived is not sent twice."
_TRANSPORT = ("httpx", "httpx2", "hf_xet", "requests", "urllib3")
_QUOTA = ("quota", "storage", "limit")


def explained(error: BaseException, repo_id: str) -> OcrsmithError | None:
    """The user's view of an error of the hub's client; None if it is not one of the hub's.

    Args:
        error: as the client raised it.
        repo_id: the repository that it was about.
    """
    if isinstance(error, OcrsmithError):
        return None
    if isinstance(error, LocalTokenNotFoundError):
        return SettingsError(
            "No token for the hub is known here.",
            place="HF_TOKEN",
            mend="Log in with `hf auth login`, or set HF_TOKEN to a token that may write.",
        )
    if isinstance(error, HfHubHTTPError):
        return _refused(error, repo_id)
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # wraps an upload's
        return explained(error.__cause__, repo_id)
    if isinstance(error, ConnectionError) or type(error).__module__.split(".")[0] in _TRANSPORT:
        return OutputError(
            f"The hub cannot be reached ({type(error).__name__}).",
            place=repo_id,
            mend=f"Check the network and the proxy. {_RESUME}",
        )
    if isinstance(error, ValueError):  # an answer that the client did not understand, or a card refused
        return OutputError(f"The upload broke off: {_line(str(error))}.", place=repo_id, mend=_RESUME)
    if isinstance(error, RuntimeError):  # of the store behind the hub; its text may hold signed addresses
        return OutputError("The upload broke off: the hub's store failed.", place=repo_id, mend=_RESUME)
    return None


def _refused(error: HfHubHTTPError, repo_id: str) -> OcrsmithError:
    status = error.response.status_code
    said = _line(error.server_message or "")
    because = f" It says: {said}." if said else ""
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return OutputError(
            f"The hub shows no repository {repo_id}, or not to this token.{because}",
            place="--repo-id",
            mend="Check its name, and the rights of the token.",
        )
    if status == 401:
        return SettingsError(
            "The hub does not accept the token.", place="HF_TOKEN", mend="Make a new one and log in again."
        )
    if status == 402 or (status in (403, 413) and any(word in said.lower() for word in _QUOTA)):
        return OutputError(
            f"The hub has no room for this.{because}",
            place=repo_id,
            mend="Free storage there, or upload to an organisation that has some.",
        )
    if status == 403:
        return OutputError(
            f"The token has no right to write to {repo_id}.{because}",
            place="HF_TOKEN",
            mend="Use one that may write there.",
        )
    if status in (409, 412):
        return OutputError(
            f"The repository {repo_id} was changed or made by somebody else meanwhile.{because}",
            place=repo_id,
            mend="Look at it, and run the same again.",
        )
    if status == 429 or status >= 500:
        return OutputError(
            f"The hub is busy or has trouble (HTTP {status}).{because}", place=repo_id, mend=f"Wait. {_RESUME}"
        )
    return OutputError(f"The hub refuses the upload (HTTP {status}).{because}", place=repo_id)


def _line(text: str) -> str:
    """The first line of somebody else's text, short and without control characters."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return "".join(letter for letter in first.strip() if letter.isprintable())[:200].rstrip(".")

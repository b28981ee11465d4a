"""DPoP proofs by the `okta` package, with a key that does not cost 180 ms a proof. Imported only when Okta asks for proofs.

The package's own key takes 2 to 4 seconds to make and is exported and parsed again for each proof: at 1,200 requests
a pass that is more than three minutes of a core. With the key of `cryptography` a proof takes under a millisecond.
"""

from __future__ import annotations

import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from okta.dpop import DPoPProofGenerator

KEY_LIFE = 86_400


class _Held:
    """A key in the form the generator hands on to PyJWT."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key

    def export_key(self) -> rsa.RSAPrivateKey:
        return self._key


class Proofs(DPoPProofGenerator):
    """Proofs of one key, which is made here and never leaves the process."""

    def __init__(self) -> None:
        super().__init__({"dpopKeyRotationInterval": 2 * KEY_LIFE})

    def proof(self, method: str, url: str, token: str | None, nonce: str | None) -> str:
        """Prove possession for one request. `nonce` is the one its server asked for; the two servers have their own."""
        return str(self.generate_proof_jwt(method, url, token, nonce))

    def is_old(self) -> bool:
        return bool(self.get_key_age() > KEY_LIFE)

    def _rotate_keys_internal(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=3072)
        public: dict[str, Any] = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        held: Any = _Held(key)
        self._rsa_key = held
        self._public_jwk = {part: public[part] for part in ("kty", "n", "e")}
        self._key_created_at = time.time()

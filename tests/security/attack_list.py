"""The attacks on whoever verifies JWTs or AWS signatures that are publicly known, and the tests of each in this folder.

The list is of what some verifier has let in, not of what this gateway does. The first test of a row is named for its
attack (`test_`, then its id) and asks a gateway that runs; those after it look closer, or from another side.
`python -m tests.security.attack_list` prints the table. Nothing is tested here; `test_attack_list` checks the table.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: its id, what an attacker tries, and the tests (`file::name`) that see it fail."""

    id: str
    tries: str
    tests: tuple[str, ...]

    @property
    def named_test(self) -> str:
        """Return how the name of the first test begins."""
        return f"test_{self.id.replace('-', '_')}_"


BEARER_TOKENS = (
    Attack(
        "jwt-alg-none",
        "The header says that nothing was signed: alg none in any spelling, empty, or missing.",
        (
            "test_bearer_attacks.py::test_jwt_alg_none_is_refused",
            "test_bearer_attacks.py::test_jwt_alg_none_is_refused_without_any_signature",
            "test_jwt_attacks.py::test_an_algorithm_of_none_or_of_another_spelling",
            "test_jwt_attacks.py::test_an_algorithm_that_is_missing_or_no_string",
            "test_jwt_attacks.py::test_a_token_without_a_signature",
        ),
    ),
    Attack(
        "jwt-hmac-with-public-key",
        "An HMAC whose secret is the issuer's public key, in any of the forms in which it is published.",
        (
            "test_bearer_attacks.py::test_jwt_hmac_with_public_key_is_refused",
            "test_jwt_attacks.py::test_a_public_key_used_as_a_shared_secret",
        ),
    ),
    Attack(
        "jwt-oct-key-in-key-set",
        "A shared secret that an issuer publishes by mistake, and a token under it.",
        (
            "test_bearer_attacks.py::test_jwt_oct_key_in_key_set_verifies_nothing",
            "test_bearer_attacks.py::test_jwt_oct_key_in_key_set_makes_the_whole_set_unusable",
            "test_jwt_attacks.py::test_a_shared_secret_published_in_the_key_set",
        ),
    ),
    Attack(
        "jwt-alg-switch",
        "Another algorithm of the same type of key than the one that the key is published for.",
        (
            "test_bearer_attacks.py::test_jwt_alg_switch_within_a_key_type_is_refused",
            "test_jwt_attacks.py::test_another_algorithm_of_the_same_key_type",
            "test_jwt_attacks.py::test_an_algorithm_of_another_key_type",
        ),
    ),
    Attack(
        "jwt-kid-injection",
        "A key id that is a path, a query or a line break, or no text at all.",
        (
            "test_bearer_attacks.py::test_jwt_kid_injection_finds_no_key",
            "test_jwt_attacks.py::test_a_key_id_that_means_something_to_a_file_system_or_database",
            "test_jwt_attacks.py::test_a_key_id_with_control_characters_or_of_another_type",
        ),
    ),
    Attack(
        "jwt-key-in-header",
        "A key, a certificate or the address of one in the token itself: jwk, x5c, jku, x5u.",
        (
            "test_bearer_attacks.py::test_jwt_key_in_header_is_neither_used_nor_fetched",
            "test_bearer_attacks.py::test_jwt_key_in_header_is_not_used_as_a_certificate",
            "test_jwt_attacks.py::test_a_key_that_the_token_brings_along",
            "test_jwt_attacks.py::test_a_certificate_chain_that_the_token_brings_along_is_not_used",
        ),
    ),
    Attack(
        "jwt-crit-header",
        "Critical extensions that nobody implements: unknown, none, twice, registered names, or no list.",
        (
            "test_bearer_attacks.py::test_jwt_crit_header_is_refused_whatever_it_says",
            "test_jwt_attacks.py::test_critical_headers_of_every_kind",
        ),
    ),
    Attack(
        "jwt-unencoded-payload",
        "b64 says that the payload is signed in another form than it is read in.",
        (
            "test_bearer_attacks.py::test_jwt_unencoded_payload_is_refused",
            "test_jwt_attacks.py::test_an_unencoded_payload",
        ),
    ),
    Attack(
        "jwt-duplicate-names",
        "One name twice in header or claims, of which two parsers take different ones.",
        (
            "test_bearer_attacks.py::test_jwt_duplicate_names_are_refused",
            "test_jwt_attacks.py::test_a_header_with_two_algorithms",
            "test_jwt_attacks.py::test_claims_that_two_parsers_would_read_differently",
        ),
    ),
    Attack(
        "jwt-nested-or-encrypted",
        "A token inside a token, or one that is only encrypted, which anybody with the public key can do.",
        (
            "test_bearer_attacks.py::test_jwt_nested_or_encrypted_is_refused_when_only_encrypted",
            "test_bearer_attacks.py::test_jwt_nested_or_encrypted_is_refused_when_signed_inside",
            "test_bearer_attacks.py::test_jwt_nested_or_encrypted_is_refused_when_signed_twice",
            "test_jwt_attacks.py::test_an_encrypted_token",
            "test_jwt_attacks.py::test_a_token_inside_a_token",
        ),
    ),
    Attack(
        "jwt-decompression-bomb",
        "A compressed token that becomes large before anybody knows whose it is.",
        (
            "test_bearer_attacks.py::test_jwt_decompression_bomb_is_not_unpacked",
            "test_bearer_attacks.py::test_jwt_decompression_bomb_is_not_unpacked_out_of_a_signed_token",
            "test_jwt_attacks.py::test_compression_and_encryption",
        ),
    ),
    Attack(
        "jwt-endless-key-derivation",
        "A token under a password, with two thousand million rounds of key derivation (p2c).",
        ("test_bearer_attacks.py::test_jwt_endless_key_derivation_is_not_begun",),
    ),
    Attack(
        "jwt-zero-or-der-ecdsa",
        "An ECDSA signature of zeros, which equations without a check accept, or in a second form.",
        (
            "test_bearer_attacks.py::test_jwt_zero_or_der_ecdsa_is_refused_as_numbers_that_prove_nothing",
            "test_bearer_attacks.py::test_jwt_zero_or_der_ecdsa_is_refused_as_a_second_form",
            "test_jwt_attacks.py::test_a_psychic_signature",
            "test_jwt_attacks.py::test_an_ecdsa_signature_in_der",
            "test_jwt_attacks.py::test_a_signature_with_zeros_before_or_after",
            "test_jwt_attacks.py::test_an_ecdsa_signature_with_a_zero_between_its_halves",
        ),
    ),
    Attack(
        "jwt-weak-rsa-key",
        "An RSA key that others can calculate: 1024 bits, exponent 1, or primes of a weak generator.",
        (
            "test_bearer_attacks.py::test_jwt_weak_rsa_key_verifies_nothing",
            "test_jwt_attacks.py::test_a_key_of_1024_bits",
        ),
    ),
    Attack(
        "jwt-oversized",
        "A token, or a header, so long that reading it is the attack.",
        (
            "test_bearer_attacks.py::test_jwt_oversized_token_is_refused",
            "test_bearer_attacks.py::test_jwt_oversized_header_is_refused",
            "test_jwt_attacks.py::test_a_token_of_many_megabytes",
        ),
    ),
    Attack(
        "jwt-deep-nesting",
        "Brackets in brackets, until a parser that calls itself has no stack left.",
        (
            "test_bearer_attacks.py::test_jwt_deep_nesting_is_refused",
            "test_bearer_attacks.py::test_jwt_deep_nesting_is_refused_in_the_header",
            "test_jwt_attacks.py::test_a_header_that_is_nested_without_end",
        ),
    ),
    Attack(
        "jwt-issuer-lookalike",
        "An issuer that contains, begins like, lists or differs by case or slash from the right one.",
        (
            "test_bearer_attacks.py::test_jwt_issuer_lookalike_is_refused",
            "test_jwt_attacks.py::test_a_claim_that_is_wrong_or_of_another_type",
        ),
    ),
    Attack(
        "jwt-audience-lookalike",
        "An audience that contains the right one, a list of other things than texts, or none.",
        (
            "test_bearer_attacks.py::test_jwt_audience_lookalike_is_refused",
            "test_jwt_attacks.py::test_a_claim_that_is_wrong_or_of_another_type",
        ),
    ),
    Attack(
        "jwt-of-another-kind",
        "An ID, refresh or logout token, a client's assertion, a proof, or an introspection answer as an access token.",
        (
            "test_bearer_attacks.py::test_jwt_of_another_kind_is_refused_by_its_type",
            "test_bearer_attacks.py::test_jwt_of_another_kind_is_refused_by_its_claims",
            "test_jwt_attacks.py::test_another_kind_of_jwt_as_an_access_token",
        ),
    ),
    Attack(
        "jwt-bound-to-a-key",
        "A stolen token that is bound to a key, shown as a bearer token without the proof.",
        ("test_bearer_attacks.py::test_jwt_bound_to_a_key_is_refused_without_the_proof",),
    ),
    Attack(
        "jwt-cross-tenant",
        "A token of another tenant, where all tenants of a provider share their signing keys.",
        (
            "test_bearer_attacks.py::test_jwt_cross_tenant_is_refused_though_tenants_share_keys",
            "test_jwt_attacks.py::test_a_token_of_another_tenant_that_shares_the_keys",
        ),
    ),
    Attack(
        "jwt-key-of-another-issuer",
        "A token that names one issuer and is signed by another one, whose key has the same id.",
        (
            "test_bearer_attacks.py::test_jwt_key_of_another_issuer_verifies_nothing_though_it_has_the_same_id",
            "test_jwt_attacks.py::test_a_key_of_another_issuer_with_the_same_id",
        ),
    ),
    Attack(
        "jwt-unknown-kid-flood",
        "Key ids that are invented one after another, so that the issuer is asked each time or good keys are dropped.",
        (
            "test_bearer_attacks.py::test_jwt_unknown_kid_flood_costs_the_issuer_one_question",
            "test_bearer_attacks.py::test_jwt_unknown_kid_flood_does_not_wipe_good_keys",
            "test_unknown_kid_flood.py::test_a_thousand_invented_key_ids_cost_one_fetch",
            "test_unknown_kid_flood.py::test_a_flood_does_not_make_the_gateway_forget_good_keys",
            "test_unknown_kid_flood.py::test_a_flood_does_not_fill_the_memory",
        ),
    ),
    Attack(
        "jwt-keys-from-inside",
        "A discovery document or key set that leads to a file, a metadata service or an inner server, or redirects.",
        (
            "test_bearer_attacks.py::test_jwt_keys_from_inside_are_not_fetched",
            "test_bearer_attacks.py::test_jwt_keys_from_inside_are_not_fetched_through_a_redirect",
            "test_bearer_attacks.py::test_jwt_keys_from_inside_cannot_be_registered",
            "test_ssrf.py::test_a_redirect_inwards_is_not_followed",
            "test_ssrf.py::test_a_name_that_changes_its_address_after_the_check_is_not_followed",
            "test_visiting_issuers.py::test_a_key_set_on_another_inner_server_is_not_fetched",
        ),
    ),
    Attack(
        "jwt-time-of-another-type",
        "An expiry that is a text, a truth value, no number, infinite, or in milliseconds.",
        (
            "test_bearer_attacks.py::test_jwt_time_of_another_type_is_refused",
            "test_jwt_attacks.py::test_a_claim_that_is_wrong_or_of_another_type",
        ),
    ),
    Attack(
        "jwt-second-spelling",
        "A token that was let in, spelt otherwise, to get past a cache or a list of revoked ones.",
        (
            "test_bearer_attacks.py::test_jwt_second_spelling_is_not_taken_for_the_token_that_was_let_in",
            "test_bearer_attacks.py::test_jwt_second_spelling_is_refused_with_padding",
            "test_jwt_attacks.py::test_a_second_spelling_of_the_same_signature",
            "test_jwt_attacks.py::test_padding_and_blanks_in_the_text",
            "test_jwt_attacks.py::test_the_other_base64_alphabet",
        ),
    ),
    Attack(
        "jwt-control-characters-in-subject",
        "A subject that ends a line of a header or a log, and begins one of its own.",
        (
            "test_bearer_attacks.py::test_jwt_control_characters_in_subject_are_refused",
            "test_jwt_attacks.py::test_a_claim_that_is_wrong_or_of_another_type",
        ),
    ),
)

SIGNATURES = (
    Attack(
        "sigv4-two-authorization-headers",
        "Two Authorization headers, of which the check reads one and somebody behind it the other.",
        (
            "test_signature_attacks.py::test_sigv4_two_authorization_headers_are_refused",
            "test_sigv4_attacks.py::test_two_authorization_headers_are_refused",
            "test_sigv4_attacks.py::test_a_bearer_token_beside_a_signature_is_refused",
        ),
    ),
    Attack(
        "sigv4-other-algorithm",
        "An algorithm in another spelling, weaker, or asymmetric and then read as an HMAC.",
        (
            "test_signature_attacks.py::test_sigv4_other_algorithm_is_refused",
            "test_signature_attacks.py::test_sigv4_other_algorithm_is_refused_of_version_2",
            "test_sigv4_attacks.py::test_an_asymmetric_signature_is_refused_and_never_read_as_an_hmac",
            "test_sigv4_attacks.py::test_a_signature_of_version_2_is_refused",
        ),
    ),
    Attack(
        "sigv4-parameter-twice",
        "Credential, SignedHeaders or Signature twice in one header.",
        (
            "test_signature_attacks.py::test_sigv4_parameter_twice_is_refused",
            "test_sigv4_attacks.py::test_a_parameter_given_twice_is_not_resolved_but_refused",
        ),
    ),
    Attack(
        "sigv4-loose-authorization-header",
        "An Authorization header that a tolerant parser mends: blanks inside, none after the algorithm, other names.",
        (
            "test_signature_attacks.py::test_sigv4_loose_authorization_header_is_refused",
            "test_sigv4_attacks.py::test_blanks_inside_the_authorization_header_are_not_read_away",
        ),
    ),
    Attack(
        "sigv4-scope-of-another-shape",
        "A credential scope with more or fewer parts, or with another end.",
        (
            "test_signature_attacks.py::test_sigv4_scope_of_another_shape_is_refused",
            "test_sigv4_attacks.py::test_a_scope_that_ends_otherwise_is_refused",
        ),
    ),
    Attack(
        "sigv4-for-another-service-or-region",
        "A signature that was made for another service or region, such as that of a presigned download.",
        (
            "test_signature_attacks.py::test_sigv4_for_another_service_or_region_is_refused",
            "test_signature_attacks.py::test_sigv4_for_another_service_or_region_is_refused_in_a_presigned_url",
            "test_sigv4_attacks.py::test_a_valid_signature_for_another_service_or_region_is_no_proof_here",
            "test_sigv4_attacks.py::test_the_signing_key_is_never_derived_from_what_the_caller_names",
            "test_presigned_urls.py::test_a_url_for_another_service_or_region_is_no_proof_here",
        ),
    ),
    Attack(
        "sigv4-scope-date",
        "A scope of another day than that of the request.",
        (
            "test_signature_attacks.py::test_sigv4_scope_date_of_another_day_is_refused",
            "test_sigv4_attacks.py::test_a_signing_key_of_one_day_does_not_serve_on_another",
        ),
    ),
    Attack(
        "sigv4-old-date",
        "A captured request, long after it was signed.",
        (
            "test_signature_attacks.py::test_sigv4_old_date_is_refused",
            "test_sigv4_attacks.py::test_a_captured_request_cannot_be_replayed_after_the_window",
            "test_sigv4_attacks.py::test_a_captured_request_cannot_be_given_a_fresh_date",
        ),
    ),
    Attack(
        "sigv4-future-date",
        "A request that was signed ahead, for a time when the key is gone.",
        (
            "test_signature_attacks.py::test_sigv4_future_date_is_refused",
            "test_sigv4_attacks.py::test_a_request_cannot_be_signed_ahead_of_time",
        ),
    ),
    Attack(
        "sigv4-required-header-unsigned",
        "A signature that does not cover the host or the date.",
        (
            "test_signature_attacks.py::test_sigv4_required_header_unsigned_is_refused",
            "test_sigv4_attacks.py::test_the_host_cannot_be_left_unsigned",
            "test_sigv4_attacks.py::test_the_date_cannot_be_left_unsigned",
        ),
    ),
    Attack(
        "sigv4-amz-header-added",
        "An x-amz header that is put beside a signature that does not cover it.",
        (
            "test_signature_attacks.py::test_sigv4_amz_header_added_after_signing_is_refused",
            "test_sigv4_attacks.py::test_no_amz_header_can_be_added_after_signing",
            "test_presigned_urls.py::test_no_header_that_matters_can_be_added_to_a_url",
        ),
    ),
    Attack(
        "sigv4-user-named",
        "A user who is named beside, or in place of, what was signed.",
        (
            "test_signature_attacks.py::test_sigv4_user_named_after_signing_is_refused",
            "test_signature_attacks.py::test_sigv4_user_named_after_signing_is_refused_in_place_of_another",
            "test_sigv4_attacks.py::test_a_user_cannot_be_named_after_signing",
        ),
    ),
    Attack(
        "sigv4-absent-signed-header",
        "A signed header is taken out of the request, and passes for an empty one.",
        (
            "test_signature_attacks.py::test_sigv4_absent_signed_header_is_not_empty",
            "test_sigv4_attacks.py::test_a_signed_header_cannot_be_removed",
            "test_presigned_urls.py::test_a_signed_header_that_is_absent_is_not_empty",
        ),
    ),
    Attack(
        "sigv4-signed-header-from-the-query",
        "A signed header is moved into the query, and read from there.",
        (
            "test_signature_attacks.py::test_sigv4_signed_header_from_the_query_is_refused",
            "test_sigv4_attacks.py::test_a_signed_header_cannot_be_supplied_by_the_query",
        ),
    ),
    Attack(
        "sigv4-signed-headers-out-of-order",
        "A list of signed headers that is not sorted, or names one twice, or in capitals.",
        ("test_signature_attacks.py::test_sigv4_signed_headers_out_of_order_are_refused",),
    ),
    Attack(
        "sigv4-repeated-header",
        "A header twice: the check takes one of them, the agent the other.",
        (
            "test_signature_attacks.py::test_sigv4_repeated_header_is_refused_whichever_is_read",
            "test_sigv4_attacks.py::test_a_header_that_must_be_single_is_refused_when_repeated",
            "test_sigv4_attacks.py::test_the_order_of_a_repeated_header_is_signed",
        ),
    ),
    Attack(
        "sigv4-amz-parameter-over-a-header",
        "An x-amz parameter of the query that overrules the header of the same name.",
        (
            "test_signature_attacks.py::test_sigv4_amz_parameter_over_a_header_is_refused",
            "test_sigv4_attacks.py::test_credentials_in_header_and_query_are_refused_even_when_signed",
            "test_sigv4_attacks.py::test_an_amz_parameter_of_the_query_does_not_stand_for_a_header",
        ),
    ),
    Attack(
        "sigv4-path-in-another-spelling",
        "The signed path in other escapes, which a verifier that decodes first takes for the same.",
        (
            "test_signature_attacks.py::test_sigv4_path_in_another_spelling_is_refused",
            "test_sigv4_attacks.py::test_a_signature_for_one_path_does_not_open_another_or_another_spelling",
        ),
    ),
    Attack(
        "sigv4-path-encoded-once",
        "A signature over a path that was encoded once, as only one service has it.",
        ("test_signature_attacks.py::test_sigv4_path_encoded_once_is_not_what_was_signed",),
    ),
    Attack(
        "sigv4-dot-segments",
        "Dot and empty segments, which the signature does not see and a router may follow.",
        (
            "test_signature_attacks.py::test_sigv4_dot_segments_are_refused_though_the_signature_does_not_see_them",
            "test_sigv4_attacks.py::test_a_path_that_only_normalises_to_the_signed_one_is_refused",
            "test_sigv4_attacks.py::test_a_dot_segment_cannot_hide_in_percent_escapes_even_when_signed",
        ),
    ),
    Attack(
        "sigv4-bad-escape",
        "A percent sign that begins no escape, or the escape of a null byte, in the path.",
        (
            "test_signature_attacks.py::test_sigv4_bad_escape_in_the_path_is_refused",
            "test_sigv4_attacks.py::test_a_long_malformed_path_is_refused_without_backtracking",
        ),
    ),
    Attack(
        "sigv4-plus-as-a-blank",
        "A plus sign in the query where a blank was signed.",
        ("test_signature_attacks.py::test_sigv4_plus_as_a_blank_is_refused",),
    ),
    Attack(
        "sigv4-query-of-other-pairs",
        "A query that joins, sorts or repeats to the same text as the signed one, and says something else.",
        (
            "test_signature_attacks.py::test_sigv4_query_of_other_pairs_is_refused",
            "test_signature_attacks.py::test_sigv4_query_of_other_pairs_is_refused_where_the_order_is_not_signed",
            "test_sigv4_attacks.py::test_a_signature_for_one_query_does_not_serve_another",
        ),
    ),
    Attack(
        "sigv4-form-body",
        "Parameters in a form body, which is merged into the signed query.",
        (
            "test_signature_attacks.py::test_sigv4_form_body_is_not_the_query",
            "test_sigv4_attacks.py::test_a_form_body_is_never_read_as_the_query",
        ),
    ),
    Attack(
        "sigv4-body-without-a-declared-hash",
        "Another body under a signature whose request declares no hash of one.",
        (
            "test_signature_attacks.py::test_sigv4_body_without_a_declared_hash_is_covered_all_the_same",
            "test_sigv4_attacks.py::test_a_body_cannot_be_replaced",
        ),
    ),
    Attack(
        "sigv4-body-under-a-declared-hash",
        "Another body than the one whose hash, or the hash of nothing, was declared and signed.",
        (
            "test_signature_attacks.py::test_sigv4_body_under_a_declared_hash_of_another_is_refused",
            "test_signature_attacks.py::test_sigv4_body_under_a_declared_hash_of_nothing_is_refused",
            "test_sigv4_attacks.py::test_a_body_cannot_ride_on_the_signed_hash_of_the_empty_body",
            "test_sigv4_attacks.py::test_a_declared_hash_does_not_replace_the_hash_of_the_body",
        ),
    ),
    Attack(
        "sigv4-unsigned-payload",
        "A mode in which the signature leaves the body out, or signs it elsewhere.",
        (
            "test_signature_attacks.py::test_sigv4_unsigned_payload_is_refused",
            "test_sigv4_attacks.py::test_a_body_cannot_be_left_out_of_the_signature",
        ),
    ),
    Attack(
        "sigv4-anonymous-fallback",
        "An unsigned mode without any credentials, which passes for anonymous access.",
        (
            "test_signature_attacks.py::test_sigv4_anonymous_fallback_is_refused",
            "test_sigv4_attacks.py::test_an_unsigned_body_without_credentials_is_not_anonymous_access",
            "test_sigv4_attacks.py::test_stripping_the_credentials_is_not_anonymous_access",
        ),
    ),
    Attack(
        "sigv4-chunk-that-was-changed",
        "A chunk of the body, the last one above all, that is changed on the way.",
        ("test_signature_attacks.py::test_sigv4_chunk_that_was_changed_is_refused_wherever_it_stands",),
    ),
    Attack(
        "sigv4-signature-not-in-hex",
        "A signature of another length or alphabet, which makes the comparison fail instead of the request.",
        (
            "test_signature_attacks.py::test_sigv4_signature_not_in_hex_is_refused",
            "test_sigv4_attacks.py::test_a_signature_that_is_not_64_hexadecimal_digits_never_reaches_the_comparison",
        ),
    ),
    Attack(
        "sigv4-comparison",
        "Signatures that are guessed digit by digit, by how long it takes to refuse them.",
        ("test_signature_attacks.py::test_sigv4_comparison_takes_as_long_for_every_wrong_digit",),
    ),
    Attack(
        "sigv4-unknown-key",
        "Refusals that tell an unknown key from a wrong secret.",
        (
            "test_signature_attacks.py::test_sigv4_unknown_key_and_wrong_secret_are_answered_alike",
            "test_sigv4_attacks.py::test_an_unknown_key_is_answered_exactly_like_every_wrong_signature",
        ),
    ),
    Attack(
        "sigv4-key-id-without-a-signature",
        "The id of a key that exists, with a signature of zeros or none.",
        (
            "test_signature_attacks.py::test_sigv4_key_id_without_a_signature_is_nobody",
            "test_sigv4_attacks.py::test_an_unsigned_header_does_not_reach_those_who_read_proven_headers",
        ),
    ),
    Attack(
        "sigv4-well-known-secret",
        "A secret that emulators take for everybody's, or the one that stands for unknown keys.",
        (
            "test_signature_attacks.py::test_sigv4_well_known_secret_is_refused",
            "test_signature_attacks.py::test_sigv4_well_known_secret_is_refused_for_a_key_that_does_not_exist",
            "test_sigv4_attacks.py::test_the_secret_that_stands_for_unknown_keys_authenticates_nobody",
        ),
    ),
    Attack(
        "sigv4-key-id-injection",
        "An access key id that is a filter, a query or a path to whatever looks it up.",
        (
            "test_signature_attacks.py::test_sigv4_key_id_injection_finds_no_key",
            "test_sigv4_attacks.py::test_an_access_key_id_cannot_carry_a_query_or_a_path_into_the_look_up",
        ),
    ),
    Attack(
        "sigv4-permission",
        "Refusals that tell, before the signature was proven, what its key may do.",
        ("test_signature_attacks.py::test_sigv4_permission_is_not_told_before_the_signature_is_proven",),
    ),
    Attack(
        "sigv4-session-token-of-another-key",
        "A session token beside another key: of another session, of none, or left out.",
        (
            "test_signature_attacks.py::test_sigv4_session_token_of_another_key_is_refused",
            "test_temporary_credentials.py::test_the_token_of_another_session_does_not_serve_beside_a_key_of_ones_own",
            "test_temporary_credentials.py::test_a_long_term_key_does_not_borrow_a_session",
            "test_temporary_credentials.py::test_a_temporary_key_does_not_sign_without_its_token",
        ),
    ),
    Attack(
        "sigv4-session-token-added",
        "A session token that is put beside a signature that does not cover it.",
        (
            "test_signature_attacks.py::test_sigv4_session_token_added_after_signing_is_refused",
            "test_temporary_credentials.py::test_a_token_cannot_be_put_beside_a_signature_that_does_not_cover_it",
        ),
    ),
    Attack(
        "sigv4-for-another-host",
        "A request that was signed for another host, sent here.",
        (
            "test_signature_attacks.py::test_sigv4_for_another_host_is_refused",
            "test_sigv4_attacks.py::test_a_request_for_another_host_does_not_serve_here",
        ),
    ),
    Attack(
        "sigv4-for-another-gateway",
        "A request that was signed for another gateway with the same key, sent here as it is.",
        (
            "test_signature_attacks.py::test_sigv4_for_another_gateway_is_refused",
            "test_signature_attacks.py::test_sigv4_for_another_gateway_is_refused_by_the_sts",
        ),
    ),
    Attack(
        "sigv4-forwarded-host",
        "A header of a proxy that stands for the host that was signed, or for the path.",
        (
            "test_signature_attacks.py::test_sigv4_forwarded_host_does_not_stand_for_the_one_that_was_signed",
            "test_sigv4_attacks.py::test_a_forwarding_header_does_not_replace_the_signed_host",
        ),
    ),
    Attack(
        "sigv4-forwarded-address",
        "A header of a proxy that moves the caller into a network that a policy trusts.",
        (
            "test_signature_attacks.py::test_sigv4_forwarded_address_is_not_the_callers",
            "test_policies_at_the_door.py::test_a_header_does_not_move_the_caller_to_another_address",
        ),
    ),
    Attack(
        "sigv4-identity-header-of-the-caller",
        "A header in which gateways tell agents who calls, written by the caller.",
        ("test_signature_attacks.py::test_sigv4_identity_header_of_the_caller_does_not_reach_the_agent",),
    ),
    Attack(
        "presigned-url-outside-websockets",
        "Credentials in the query where only a header is asked for, and only the header is looked at.",
        (
            "test_signature_attacks.py::test_presigned_url_outside_websockets_is_refused",
            "test_presigned_urls.py::test_a_presigned_url_does_not_serve_where_headers_are_asked_for",
            "test_sigv4_attacks.py::test_credentials_in_the_query_alone_are_refused",
        ),
    ),
    Attack(
        "presigned-url-of-a-long-life",
        "A URL that says itself that it is good for days.",
        (
            "test_signature_attacks.py::test_presigned_url_of_a_long_life_is_refused",
            "test_presigned_urls.py::test_a_url_cannot_be_made_to_live_longer_than_five_minutes",
            "test_presigned_urls.py::test_the_life_of_a_url_cannot_be_stretched",
        ),
    ),
    Attack(
        "presigned-url-for-later",
        "A URL with a date in the future, which adds to its life.",
        (
            "test_signature_attacks.py::test_presigned_url_for_later_is_refused",
            "test_presigned_urls.py::test_a_url_cannot_be_presigned_for_later",
        ),
    ),
    Attack(
        "presigned-url-that-has-expired",
        "A URL out of a log, after its time.",
        (
            "test_signature_attacks.py::test_presigned_url_that_has_expired_is_refused",
            "test_presigned_urls.py::test_a_url_from_a_log_does_not_serve_after_it_expired",
        ),
    ),
    Attack(
        "presigned-url-with-a-parameter-twice",
        "A second spelling of a parameter, which overrules the access key that was checked.",
        (
            "test_signature_attacks.py::test_presigned_url_with_a_parameter_twice_is_refused",
            "test_presigned_urls.py::test_another_spelling_of_a_parameter_does_not_slip_past_the_first",
            "test_presigned_urls.py::test_a_parameter_given_twice_is_not_resolved_but_refused",
        ),
    ),
    Attack(
        "sts-web-identity-alg-none",
        "An unsigned token, or one of an algorithm that nobody supports, exchanged for credentials of a role.",
        (
            "test_signature_attacks.py::test_sts_web_identity_alg_none_is_refused",
            "test_web_identity_exchange.py::test_a_token_that_the_role_does_not_trust_is_refused",
        ),
    ),
)

ATTACKS = BEARER_TOKENS + SIGNATURES


def main() -> None:
    """Print the table."""
    for attack in ATTACKS:
        print(f"{attack.id}\n    {attack.tries}", *attack.tests, sep="\n      ", end="\n\n")


if __name__ == "__main__":
    main()

"""Providers: headers of the gateway's own, ways to show who asks, and whom a probe can ask."""

import pytest

from tests.config.slips import said


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        (
            'api_key: "${KEY}"}',
            "dialect: vllm}",
            [
                (
                    "f:6: providers.g: Amazon has to be told who asks, once; write api_key (a bearer"
                    " key) or aws (an access key), one of the two"
                ),
                "f:6: providers.g.dialect: this is for providers that speak openai; leave it out",
            ],
        ),
        (
            "p: {protocol: openai, base_url: http://h}",
            "p: {protocol: gemini, base_url: http://h, token: {file: /x, metadata: true}}",
            [
                (
                    "f:4: providers.p.token: a provider is shown one thing only; write one of"
                    " service_account, metadata and file, and no api_key beside it"
                )
            ],
        ),
        (
            "p: {protocol: openai, base_url: http://h}",
            "p: {protocol: anthropic, base_url: http://h, dialect: vertex, token: {metadata: true}}",
            [],
        ),
        (
            "p: {protocol: openai, base_url: http://h}",
            "p: {protocol: openai, base_url: http://h, dialect: vertex}",
            [
                (
                    "f:4: providers.p.dialect: this is for providers that speak anthropic or"
                    " gemini; leave it out"
                )
            ],
        ),
        *(
            (
                "p: {protocol: openai, base_url: http://h}",
                f"p: {{{provider}, health: {{probe: call}}}}",
                [
                    (
                        f"f:4: providers.p.health.probe: a probe cannot ask this provider: {why};"
                        " write connect or off"
                    )
                ],
            )
            for provider, why in (
                (
                    "protocol: cohere, base_url: http://h",
                    "those who speak cohere have no such probe",
                ),
                (
                    "protocol: gemini, base_url: https://aiplatform.googleapis.com/v1/projects/o",
                    "its paths at Vertex AI are known to the edges only",
                ),
                (
                    "protocol: openai, base_url: http://h, token: {file: /x}",
                    "its token is known to the edges only",
                ),
            )
        ),
        *(
            (
                "p: {protocol: openai, base_url: http://h}",
                f'p: {{{provider}, api_key: "${{KEY}}", headers: {{{header}: "${{KEY}}"}}}}',
                [
                    (
                        f"f:4: providers.p.headers.{header}: this header is made from api_key;"
                        " write one of the two"
                    )
                ],
            )
            for provider, header in (
                ("protocol: openai, base_url: http://h", "Authorization"),
                ("protocol: anthropic, base_url: http://h", "X-Api-Key"),
                ("protocol: openai, base_url: https://a.openai.azure.com", "api-key"),
            )
        ),
        *(
            (
                "p: {protocol: openai, base_url: http://h}",
                f'p: {{{provider}, api_key: "${{KEY}}", headers: {{{header}: "${{KEY}}"}}}}',
                [],
            )
            for provider, header in (
                ("protocol: openai, base_url: http://h", "X-Api-Key"),
                ("protocol: anthropic, base_url: http://h", "Authorization"),
                ("protocol: gemini, base_url: http://h", "Authorization"),
                ("protocol: openai, base_url: https://a.openai.azure.com", "Authorization"),
            )
        ),
        (
            "p: {protocol: openai, base_url: http://h}",
            (
                'p: {protocol: anthropic, base_url: http://h, api_key: "${OAUTH}",'
                ' headers: {X-Api-Key: "${KEY}", Authorization: "${KEY}"}}'
            ),
            [
                "f:4: providers.p.headers.Authorization: this header is made from api_key; write one of the two"
            ],
        ),
        (
            "p: {protocol: openai, base_url: http://h}",
            (
                "p: {protocol: openai, base_url: http://h, token: {file: /x},"
                ' headers: {Authorization: "${KEY}", X-Amz-Date: now}}'
            ),
            [
                "f:4: providers.p.headers.Authorization: this header is made from token; write one of the two"
            ],
        ),
        *(
            (
                'api_key: "${KEY}"}',
                f'aws: {{role: true, region: r}}, headers: {{{header}: "${{KEY}}"}}}}',
                [
                    f"f:6: providers.g.headers.{header}: this header is made from aws; write one of the two"
                ],
            )
            for header in ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")
        ),
        *(
            (
                "p: {protocol: openai, base_url: http://h}",
                f"p: {{base_url: http://h, files: true, {provider}}}",
                [f"f:4: providers.p.files: {said}"] if said else [],
            )
            for provider, said in (
                ("protocol: openai", ""),
                ("protocol: cohere", "this is for providers that speak openai; leave it out"),
                (
                    "protocol: openai, api_version: '1'",
                    (
                        "files have no place in Azure's API by deployment; leave api_version out, and"
                        " let base_url end with /openai/v1"
                    ),
                ),
                (
                    "protocol: openai, token: {file: /x}",
                    (
                        "the control, which bills batches, has no token to ask with; write an api_key in"
                        " place of the token"
                    ),
                ),
            )
        ),
        (
            'api_key: "${KEY}"}',
            'api_key: "${KEY}", health: {probe: connect}}',
            [],
        ),
        (
            'http://h, api_key: "${KEY}"}',
            "http://h, aws: {role: true, region: eu-west-1}}",
            [],
        ),
        (
            'http://h, api_key: "${KEY}"}',
            "http://h, aws: {role: True, region: eu-west-1}}",
            [],
        ),
        (
            'http://h, api_key: "${KEY}"}',
            'http://h, aws: {role: true, region: "${AWS_REGION:-}"}}',
            [
                (
                    "f:6: providers.g.aws: the host of base_url names no region; write aws.region,"
                    " e.g. eu-central-1"
                )
            ],
        ),
        (
            'http://h, api_key: "${KEY}"}',
            "http://h, aws: {access_key_id: A, region: eu-west-1}}",
            [
                (
                    "f:6: providers.g.aws: there is one key to sign with; write role: true, or"
                    " access_key_id with its secret_access_key"
                )
            ],
        ),
        (
            'api_key: "${KEY}"}',
            'aws: {access_key_id: A, secret_access_key: "${KEY}"}}',
            [
                (
                    "f:6: providers.g.aws: the host of base_url names no region; write aws.region,"
                    " e.g. eu-central-1"
                )
            ],
        ),
        (
            'http://h, api_key: "${KEY}"}',
            (
                "https://bedrock-runtime.eu-west-1.amazonaws.com,"
                " aws: {access_key_id: A, secret_access_key: in-clear}}"
            ),
            [
                (
                    "f:6: providers.g.aws.secret_access_key: warning: a secret in clear;"
                    " write ${VARIABLE} and keep the secret out of the file"
                )
            ],
        ),
        (
            "p: {protocol: openai, base_url: http://h}",
            (
                "p: {protocol: openai, base_url: http://h, aws: {access_key_id: A,"
                ' secret_access_key: "${KEY}"}}'
            ),
            ["f:4: providers.p.aws: this is for providers that speak bedrock; leave it out"],
        ),
        (
            "p: {protocol: openai, base_url: http://h}",
            (
                "p: {protocol: openai, base_url: http://h, api_key: ${KEY},"
                " headers: {a: b, A: c, Content-Length: 1, Authorization: x}}"
            ),
            [
                'f:4: providers.p.headers.A: the same header as "a"; keep one of the two',
                "f:4: providers.p.headers.Content-Length: the gateway owns this header; leave it out: it is made for each request",
                "f:4: providers.p.headers.Authorization: this header is made from api_key; write one of the two",
                (
                    "f:4: providers.p.headers.Authorization: warning: a secret in clear;"
                    " write ${VARIABLE} and keep the secret out of the file"
                ),
            ],
        ),
    ],
)
def test_what_a_provider_cannot_be_is_said(old: str, new: str, problems: list[str]) -> None:
    """Exactly these problems, in the order of the document."""
    assert said(old, new) == problems
